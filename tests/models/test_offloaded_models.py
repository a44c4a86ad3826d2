"""Models that accelerate has offloaded: what they are, not what is left of them in the module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg

pytestmark = pytest.mark.models
PARAMS, MACS, BACKWARD = 676, 2560, 6144
CPU = torch.device("cpu")


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


def in_memory(folder: Path) -> nn.Module:
    from accelerate import cpu_offload

    return cpu_offload(plain(), execution_device=CPU)


def on_disk(folder: Path) -> nn.Module:
    from accelerate import disk_offload

    return disk_offload(plain(), str(folder), execution_device=CPU)


def dispatched(folder: Path) -> nn.Module:
    from accelerate import dispatch_model

    places = {"0": "cpu", "1": "cpu", "2": "disk"}
    return dispatch_model(plain(), places, main_device="cpu", offload_dir=str(folder))


def loaded(folder: Path) -> nn.Module:
    from accelerate import init_empty_weights, load_checkpoint_and_dispatch

    torch.save(plain().state_dict(), folder / "pytorch_model.bin")
    with init_empty_weights():
        model = plain()
    return load_checkpoint_and_dispatch(
        model, str(folder / "pytorch_model.bin"),
        device_map={"0": "cpu", "1": "cpu", "2": "disk"}, offload_folder=str(folder),
    )  # fmt: skip


def empty(folder: Path) -> nn.Module:
    from accelerate import init_empty_weights

    with init_empty_weights():
        return plain()


def below_one_hook(folder: Path) -> nn.Module:
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    hook = AlignDevicesHook(execution_device=CPU, offload=True, place_submodules=True)
    return add_hook_to_module(plain(), hook)


BUILDS = [in_memory, on_disk, dispatched, loaded, empty, below_one_hook]


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_offloaded_models_count_whole(build: Callable[..., nn.Module], tmp_path: Path) -> None:
    model = build(tmp_path)
    before = [(name, id(p), p.device.type) for name, p in model.named_parameters()]
    training = tg.Scenario(mode="training", optimizer="adamw", channels_last=True)
    reports = [
        tg.analyze(model), tg.analyze(model, (4, 16)), tg.analyze(model, (4, 16), scenario=training)
    ]  # fmt: skip
    assert [r.totals.params for r in reports] == [PARAMS] * 3
    assert [r.totals.trainable_params for r in reports] == [PARAMS] * 3
    assert (reports[1].totals.forward_macs, reports[2].totals.backward_flops) == (MACS, BACKWARD)
    assert reports[1].execution == reports[2].execution == "simulated"
    assert before == [(name, id(p), p.device.type) for name, p in model.named_parameters()]
    if build is not empty:
        assert all(any("offloaded by accelerate" in t for t in r.assumptions) for r in reports)
        assert model(torch.zeros(4, 16)).shape == (4, 4)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.layer = nn.Linear(16, 1), nn.Linear(16, 4)
        nn.init.constant_(self.gate.bias, 5.0)
        nn.init.zeros_(self.gate.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if self.gate(x).mean() > 4.0 else x


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_a_real_run_takes_the_weights_from_where_they_are(place: str, tmp_path: Path) -> None:
    from accelerate import cpu_offload, disk_offload

    model: Any = Branching()
    if place == "cpu":
        cpu_offload(model, execution_device=CPU)
    else:
        disk_offload(model, str(tmp_path), execution_device=CPU)
    report = tg.analyze(model, (4, 16))
    assert report.execution == "real"
    assert report.totals.forward_macs == 4 * (16 + 16 * 4)  # the branch of the real weights


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 16)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(x))


def test_tied_weights_count_once(tmp_path: Path) -> None:
    from accelerate import cpu_offload, dispatch_model

    places = {"table": "disk", "head": "disk"}
    on_disk = dispatch_model(
        Tied(), places, main_device="cpu", offload_dir=str(tmp_path), force_hooks=True
    )
    for model in (cpu_offload(Tied(), execution_device=CPU), on_disk):
        assert tg.analyze(model).totals.params == 20 * 16
        assert tg.analyze(model, (4, 7)).totals.params == 20 * 16


class Chain(nn.Module):
    """Layers of one shape; ``ties`` says which of them share a weight."""

    def __init__(self, ties: dict[int, int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16, bias=False) for _ in range(4))
        for index, first in ties.items():
            self.layers[index].weight = self.layers[first].weight
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(3))
        self.ramps = nn.ParameterList(torch.arange(1.0, 33).log() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (*self.layers, *self.norms):
            x = layer(x)
        return x


@pytest.mark.parametrize("way", ["disk_offload", "dispatch_model"])
@pytest.mark.parametrize(
    ("ties", "weights"),
    [({}, 4), ({1: 0}, 3), ({1: 0, 3: 2}, 2), ({1: 0, 2: 0}, 2), ({3: 0}, 3)],
)
def test_ties_on_the_disk_are_those_of_the_numbers(
    ties: dict[int, int], weights: int, way: str, tmp_path: Path
) -> None:
    import accelerate

    model: Any = Chain(ties)
    if way == "disk_offload":
        accelerate.disk_offload(model, str(tmp_path), execution_device=CPU)
    else:
        places = dict.fromkeys(("layers", "norms", "ramps"), "disk")
        model = accelerate.dispatch_model(
            model, places, main_device="cpu", offload_dir=str(tmp_path), force_hooks=True
        )
    report = tg.analyze(model, (4, 16))
    assert report.totals.params == weights * 16 * 16 + 3 * 32 + 3 * 32
    assert report.memory is not None
    assert report.memory.parameter_bytes == 4 * report.totals.params
    said = "offloaded weights of the same numbers on the disk were read as tied"
    assert (said in report.assumptions) == bool(ties)


def test_frozen_weights_stay_frozen() -> None:
    from accelerate import cpu_offload

    model = plain()
    model[0].weight.requires_grad_(False)
    totals = tg.analyze(cpu_offload(model, execution_device=CPU), (4, 16)).totals
    assert (totals.trainable_params, totals.params) == (PARAMS - 16 * 32, PARAMS)


def test_hooks_that_do_more_than_move_still_run() -> None:
    from accelerate import cpu_offload
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Twice(ModelHook):
        def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return (torch.cat([args[0], args[0]]),), kwargs

    model = plain()
    cpu_offload(model, execution_device=CPU)
    add_hook_to_module(model[0], Twice(), append=True)
    assert tg.analyze(model, (4, 16)).totals.forward_macs == 2 * MACS
