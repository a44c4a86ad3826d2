"""What a model does itself about its backward, on the CPU (the real run) and on a GPU.

Its own ``torch.utils.checkpoint`` calls, ``saved_tensors_hooks``, autograd functions with
``custom_fwd``, under autocast too.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import torchgauge as tg
from small_models import streams, trace
from torchgauge.errors import ModelError
from torchgauge.facts.trace import Phase, Role, Trace

A100 = "A100-SXM-40GB"


class Product(torch.autograd.Function):
    """A product of its own, with the autocast of its forward in the backward."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda")
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    @torch.amp.custom_bwd(device_type="cuda")
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, weight = ctx.saved_tensors
        return grad @ weight, grad.t() @ x


class CpuProduct(torch.autograd.Function):
    """The same for the CPU."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, weight = ctx.saved_tensors
        return grad @ weight, grad.t() @ x


def to_half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half() if tensor.dtype is torch.float32 else tensor


def to_float(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype is torch.float16 else tensor


class Own(nn.Module):
    """Three layers whose middle one saves in its own way."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.last = nn.Linear(16, 16), nn.Linear(16, 16)
        self.middle = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.between(self.first(x)))  # type: ignore[no-any-return]

    def between(self, x: torch.Tensor) -> Any:
        if self.kind == "checkpoint":
            return checkpoint(self.middle, x, use_reentrant=False)
        if self.kind == "reentrant":
            return checkpoint(self.middle, x, use_reentrant=True)
        if self.kind == "sequential":
            return checkpoint_sequential(self.middle, 2, x, use_reentrant=False)
        if self.kind == "hooks":
            with saved_tensors_hooks(to_half, to_float):
                return self.middle(x)
        if self.kind == "save_on_cpu":
            with save_on_cpu():
                return self.middle(x)
        product = Product if self.kind == "function" else CpuProduct
        return product.apply(x, self.first.weight)


KINDS = ("checkpoint", "reentrant", "sequential", "hooks", "save_on_cpu", "cpu function")
STATE = Role.OPTIMIZER_STATE
TRAINING: dict[str, Any] = {"mode": "training", "optimizer": "adamw"}


@pytest.mark.parametrize("precision", ["fp32", "bf16-autocast"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_stream_is_the_real_one(kind: str, precision: str) -> None:
    scenario = tg.Scenario(**TRAINING, precision=precision)
    comparison = streams(Own(kind), (8, 16), scenario)
    assert comparison.identical, comparison.differences[:3]


REFUSED = ("hooks", "cpu function")
"""With autocast on a GPU their backward multiplies float16 by float32: what the hooks make of saved
float16, and what a function with the autocast of another device sees."""


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_gpu_refuses_is_refused(kind: str) -> None:
    scenario = tg.Scenario(**TRAINING, precision="fp16-autocast", device=A100)
    with pytest.raises(ModelError, match="must have the same dtype, got float16, float32"):
        tg.analyze(Own(kind), (8, 16), scenario=scenario)


def test_the_cpu_refuses_it_too() -> None:
    with torch.autocast("cpu", dtype=torch.float16):
        loss = Own("hooks")(torch.ones(8, 16)).float().mean()
    with pytest.raises(RuntimeError, match="same dtype"):
        loss.backward()


@pytest.mark.parametrize(
    ("kind", "precision"),
    [(kind, "fp32") for kind in (*KINDS, "function")]
    + [(kind, "fp16-autocast") for kind in (*KINDS, "function") if kind not in REFUSED]
    + [("hooks", "bf16-autocast")],
)
def test_on_a_gpu(kind: str, precision: str) -> None:
    scenario = tg.Scenario(**TRAINING, precision=precision, device=A100)
    found = trace(Own(kind), (8, 16), scenario)
    recomputed = [op for op in found.ops if op.recompute and "addmm" in op.name]
    # One that is not reentrant stops when it has all that was saved: before the last product.
    assert len(recomputed) == {"checkpoint": 1, "reentrant": 2}.get(kind, 0)
    gradients = {s.label for s in found.storages if s.role is Role.GRADIENT} - {""}
    assert {"first.weight", "last.bias"} <= gradients
    report = tg.analyze(Own(kind), (8, 16), scenario=scenario)
    assert not [entry for entry in report.not_counted if entry.calls]
    assert report.memory is not None and report.memory.peak_reserved_bytes


def test_what_a_model_moves_to_the_host_is_not_on_the_gpu() -> None:
    """As large as the hidden activations that the same layers save on the device."""
    scenario = tg.Scenario(**TRAINING, device=A100)
    size = (512, 16)
    moved, kept = (trace(Own(kind), size, scenario) for kind in ("save_on_cpu", "hooks"))
    on_host = sum(s.nbytes for s in moved.storages if s.is_host and s.role is not STATE)
    assert on_host >= 2 * 512 * 64 * 4  # the inputs of GELU and of the last product
    assert not [s for s in kept.storages if s.is_host and s.role is not STATE]


def products(found: Trace, phase: Phase) -> list[str]:
    kinds = ("aten.mm.default",)
    return [op.outputs[0].dtype for op in found.ops if op.name in kinds and op.phase is phase]


def test_a_function_of_cuda_has_autocast_in_its_backward() -> None:
    scenario = tg.Scenario(**TRAINING, precision="bf16-autocast", device=A100)
    found = trace(Own("function"), (8, 16), scenario)
    assert products(found, Phase.FORWARD) == ["bfloat16"]
    assert set(products(found, Phase.BACKWARD)) == {"bfloat16"}


class Asking(nn.Module):
    """Asks for the state of autocast, as libraries do before they call kernels of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.answers: list[object] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        assert found == (True, torch.float16), found
        with torch.autocast("cuda", enabled=False):
            assert not torch.is_autocast_enabled("cuda")
        return self.linear(x)  # type: ignore[no-any-return]


def test_autocast_is_on_for_whoever_asks() -> None:
    before = torch.is_autocast_enabled, torch.get_autocast_dtype
    trace(Asking(), (2, 8), tg.Scenario(precision="fp16-autocast", device=A100))
    assert (torch.is_autocast_enabled, torch.get_autocast_dtype) == before
    assert not torch.is_autocast_enabled("cuda")


class Interrupted(nn.Module):
    """Is stopped by the user inside a region of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            self.linear(x)
            raise KeyboardInterrupt


@pytest.mark.parametrize("device", ["cpu", A100])
@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda':UserWarning")
def test_an_interrupted_run_leaves_nothing(device: str) -> None:
    before = torch.is_autocast_enabled, torch.autocast.__init__, torch.clear_autocast_cache
    with pytest.raises(KeyboardInterrupt):
        trace(Interrupted(), (2, 8), tg.Scenario(precision="bf16-autocast", device=device))
    after = torch.is_autocast_enabled, torch.autocast.__init__, torch.clear_autocast_cache
    assert after == before and not torch.is_autocast_enabled("cpu")
    meta = nn.RMSNorm(4, device="meta")
    assert meta(torch.ones(2, 4, device="meta")).dtype is torch.float32
