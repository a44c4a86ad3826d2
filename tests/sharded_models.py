"""Models under every wrapper that shards or replicates: one rank of them, as a program.

``python sharded_models.py RANK RANKS FILE`` meets the other ranks through FILE, analyses each model
without an input, in inference and in training, and prints what came out as one line of JSON.
"""

from __future__ import annotations

import datetime
import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecision, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import torchgauge as tg
from torchgauge.errors import TorchGaugeError

CPU = torch.device("cpu")
FSDP2_RUNS = hasattr(torch.cpu.Stream, "record_event")
"""Whether a forward under FSDP2 runs on the CPU: it asks its streams for events. Not in 2.6, where
the models that have run are those that have not."""


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 16)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(x))


class Branching(nn.Module):
    """Cannot be simulated: a branch depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.second(x) if x.sum() > -1e9 else x


class Inside(nn.Module):
    """A part is wrapped, and code that knows of it reaches through the wrapper."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part, self.head = part, nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.part.module[2](self.part.module[0](x)))


class OfDTensors(nn.Module):
    """Asks its weight for what only a DTensor has."""

    def __init__(self, mesh: DeviceMesh) -> None:
        super().__init__()
        whole = distribute_tensor(torch.zeros(32, 16), mesh, [Shard(0)])
        self.weight = nn.Parameter(whole)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert len(self.weight.placements) == 1
        return nn.functional.linear(x, self.weight.full_tensor())


class MakesDTensors(nn.Module):
    """Distributes inside the forward."""

    def __init__(self, mesh: DeviceMesh) -> None:
        super().__init__()
        self.layer, self.mesh = nn.Linear(16, 32), mesh

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(DTensor.from_local(x, self.mesh, [Replicate()])).to_local()


class Communicating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        dist.all_reduce(x.detach())
        return x


class Heads(nn.Module):
    """Counts on a rank's share of the heads."""

    def __init__(self, ranks: int) -> None:
        super().__init__()
        self.query, self.out, self.heads = nn.Linear(16, 32), nn.Linear(32, 16), 4 // ranks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.query(x).view(*x.shape[:-1], self.heads, 8).flatten(-2))


def cases(mesh: DeviceMesh) -> dict[str, Callable[[], nn.Module]]:
    """Return how to build each model."""
    ranks = mesh.size()

    def fsdp1(model: nn.Module | None = None, **options: Any) -> nn.Module:
        return FSDP(plain() if model is None else model, device_id=CPU, **options)

    def fsdp2(model: nn.Module | None = None, **options: Any) -> nn.Module:
        model = plain() if model is None else model
        for child in model.children():
            if any(True for _ in child.parameters()):
                fully_shard(child, mesh=mesh, **options)
        return fully_shard(model, mesh=mesh, **options)

    def split(model: nn.Module, first: str, second: str) -> nn.Module:
        plan = {first: ColwiseParallel(), second: RowwiseParallel()}
        return parallelize_module(model, mesh, plan)

    def after_step(model: nn.Module) -> nn.Module:
        if FSDP2_RUNS or not isinstance(model, FSDPModule):
            model(torch.randn(4, 16)).sum().backward()
        return model

    def partly() -> nn.Module:
        model = plain()
        fully_shard(model[0], mesh=mesh)
        return model

    def unsharded_in_half() -> nn.Module:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
        model = fully_shard(plain(), mesh=mesh, mp_policy=policy, reshard_after_forward=False)
        if FSDP2_RUNS:
            model(torch.randn(4, 16))
        return model

    def frozen() -> nn.Module:
        model = plain()
        model[0].weight.requires_grad_(False)
        return fsdp1(model, use_orig_params=True)

    def hooked() -> nn.Module:
        model = DistributedDataParallel(plain(), static_graph=True)
        model.register_comm_hook(None, default_hooks.allreduce_hook)
        return model

    def two_dimensions() -> nn.Module:
        both = init_device_mesh("cpu", (1, ranks), mesh_dim_names=("data", "tensor"))
        plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        return fully_shard(parallelize_module(plain(), both["tensor"], plan), mesh=both["data"])

    wrap = ModuleWrapPolicy({nn.Linear})
    half = MixedPrecision(param_dtype=torch.bfloat16)
    return {
        "FSDP2": fsdp2,
        "FSDP2 after a step": lambda: after_step(fsdp2()),
        "FSDP2 of a part": partly,
        "FSDP2 unsharded, in half": unsharded_in_half,
        "FSDP2 compiled": lambda: compiled(fsdp2()),
        "FSDP2 tied": lambda: fully_shard(Tied(), mesh=mesh),
        "FSDP2 branching": lambda: fsdp2(Branching()),
        "FSDP1": fsdp1,
        "FSDP1 after a step": lambda: after_step(fsdp1()),
        "FSDP1, own parameters": lambda: after_step(fsdp1(use_orig_params=True)),
        "FSDP1 nested": lambda: fsdp1(auto_wrap_policy=wrap),
        "FSDP1 in half": lambda: after_step(fsdp1(mixed_precision=half)),
        "FSDP1 tied": lambda: fsdp1(Tied()),
        "FSDP1 frozen": frozen,
        "FSDP1 branching": lambda: fsdp1(Branching()),
        "FSDP1 inside": lambda: Inside(fsdp1(use_orig_params=True)),
        "tensor parallel": lambda: split(plain(), "0", "2"),
        "tensor parallel and FSDP2": two_dimensions,
        "tensor parallel branching": lambda: split(Branching(), "first", "second"),
        "tensor parallel heads": lambda: split(Heads(ranks), "query", "out"),
        "DTensor replicas": lambda: distribute_module(plain(), mesh),
        "DTensor methods": lambda: OfDTensors(mesh),
        "DTensor made inside": lambda: distribute_module(MakesDTensors(mesh), mesh),
        "DDP": lambda: DistributedDataParallel(plain()),
        "DDP hooked": hooked,
        "DDP after a step": lambda: after_step(DistributedDataParallel(plain())),
        "DDP of a compiled one": lambda: DistributedDataParallel(compiled(plain())),
        "DDP branching": lambda: DistributedDataParallel(Branching()),
        "DDP inside": lambda: Inside(DistributedDataParallel(plain())),
        "SyncBatchNorm": lambda: nn.SyncBatchNorm.convert_sync_batchnorm(
            nn.Sequential(nn.Linear(16, 4), nn.BatchNorm1d(4))
        ),
        "communicating": Communicating,
    }


def look_at(name: str, model: nn.Module) -> dict[str, Any]:
    """Return what the three analyses of a model say, or the message of the one that refuses."""
    size = (4, 7) if "tied" in name else (2, 5, 16) if "heads" in name else (4, 16)
    before = state(model)
    try:
        structure = tg.analyze(model)
        inference = tg.analyze(model, size)
        training = tg.analyze(model, size, scenario=tg.Scenario(mode="training", optimizer="adamw"))
    except TorchGaugeError as error:
        return {"refused": str(error), "hint": error.hint, "kept": state(model) == before}
    return {
        "params": [report.totals.params for report in (structure, inference, training)],
        "trainable": [r.totals.trainable_params for r in (structure, inference, training)],
        "bytes": structure.totals.param_bytes,
        "macs": inference.totals.forward_macs,
        "backward": training.totals.backward_flops,
        "names": {
            own.name: own.shape
            for module in training.modules.values()
            for own in module.own_parameters
            if not own.is_buffer
        },
        "execution": training.execution,
        "said": [structure.assumptions, training.assumptions],
        "peak": training.memory.peak_allocated_bytes if training.memory else None,
        "kept": state(model) == before,
    }


def state(model: nn.Module) -> list[Any]:
    """Return what must not change: whose class, which parameters, where, how many hooks."""
    return [
        (type(module).__name__, len(module._forward_hooks), sorted(module.__dict__),
         [(name, id(p), p.device.type, p.grad is None) for name, p in module._parameters.items()
          if p is not None])
        for module in model.modules()
    ]  # fmt: skip


def main(rank: int, ranks: int, file: str) -> None:
    """Meet the others, look at every model, print the results."""
    warnings.simplefilter("ignore")
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=ranks,
        timeout=datetime.timedelta(seconds=60),
    )  # fmt: skip
    mesh = init_device_mesh("cpu", (ranks,))
    found = {name: look_at(name, build()) for name, build in cases(mesh).items()}
    kept = [build() for name, build in cases(mesh).items() if name in ("FSDP2", "FSDP1", "DDP")]
    dist.barrier()
    if rank == 0:  # the others take no part in it: nothing may be sent
        found["alone"] = look_at("alone", Communicating())
    dist.barrier()
    dist.destroy_process_group()
    for model in kept:
        found[f"{type(model).__name__} without its group"] = look_at("", model)
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
