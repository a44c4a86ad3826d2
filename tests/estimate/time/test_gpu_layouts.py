"""What a GPU's kernels do about the order of elements, rows, tiles and sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from small_models import trace
from torchgauge.devices import find_device
from torchgauge.estimate.time.gpu import DeviceModel, Kind
from torchgauge.estimate.time.gpu.cost import kernel_time
from torchgauge.estimate.time.gpu.fusion import fused
from torchgauge.estimate.time.gpu.timeline import kernels_on_gpu
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Trace

MODEL = DeviceModel(device=find_device("RTX 4090"))
IMAGES = (4, 64, 16, 16)


def traced(model: nn.Module, size: tuple[int, ...], precision: str = "fp32") -> Trace:
    return trace(model, size, Scenario(device="RTX 4090", precision=precision))


def works(step: Trace) -> list[Work]:
    return [work for op in step.ops for work in kernels_on_gpu(op)]


def compute(work: Work, **changed: Any) -> float:
    work = replace(work, **changed)
    seconds: float = kernel_time(work.kind, work, MODEL.rates(work), MODEL.coefficients).compute
    return seconds


class Permuted(nn.Module):
    """A layer that gets its input with the channels last in memory, or first."""

    def __init__(self, layer: nn.Module, *, moved: bool) -> None:
        super().__init__()
        self.layer, self.moved = layer, moved

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(x.permute(0, 2, 3, 1) if self.moved else x)
        return found


@pytest.mark.parametrize(("layer", "size"), [
    (nn.LayerNorm(64), (4, 64, 16, 64)), (nn.Softmax(-1), (4, 64, 16, 64)),
])  # fmt: skip
@pytest.mark.parametrize("moved", [False, True])
def test_a_norm_copies_what_does_not_lie_row_by_row(
    layer: nn.Module, size: tuple[int, ...], moved: bool
) -> None:
    size = (4, 64, 64, 64) if moved else size
    found = [work.kind for work in works(traced(Permuted(layer, moved=moved), size))]
    assert found == [Kind.COPY] * moved + [Kind.NORM]


def test_weights_with_their_channels_last_decide_a_convolution() -> None:
    """``cudnn_conv_suggest_memory_format``: the input is copied, and the kernel copies nothing."""
    model = nn.Conv2d(64, 64, 3, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    copy, convolution = works(traced(model, IMAGES))
    assert (copy.kind, copy.nbytes) == (Kind.COPY, 2 * 4 * 64 * 16 * 16 * 4)
    assert convolution.is_channels_last and convolution.copied_bytes == 0


def test_a_softmax_has_a_warp_for_each_row_and_a_layer_norm_a_block() -> None:
    (norm,) = works(traced(nn.LayerNorm(100), (512, 100)))
    (softmax,) = works(traced(nn.Softmax(-1), (512, 100)))
    (short,) = works(traced(nn.Softmax(-1), (5120, 10)))
    assert (norm.rows, norm.padding, norm.is_softmax) == (512 * 128, 0, False)
    assert (softmax.rows, softmax.padding, softmax.is_softmax) == (512 * 32, 512 * 28, True)
    assert (short.rows, short.padding) == (5120 * 16, 5120 * 6)


@pytest.mark.parametrize(("sides", "unaligned"), [
    ((64, 64), False), ((64, 60), True), ((60, 64), True),
])  # fmt: skip
def test_a_product_in_half_precision_is_slower_on_odd_sides(
    sides: tuple[int, int], unaligned: bool
) -> None:
    step = traced(nn.Linear(*sides, bias=False), (512, sides[0]), "fp16")
    (work,) = works(step)
    assert work.is_unaligned is unaligned
    assert (compute(work) > compute(work, is_unaligned=False)) is unaligned


@pytest.mark.parametrize("side", ["rows", "columns", "inner"])
def test_no_smaller_product_takes_longer(side: str) -> None:
    work = Work(kind=Kind.MATMUL, dtype="float16", rows=1e4, columns=1e3, inner=1e3)
    seconds = [compute(work, **{side: size}) for size in range(8, 600, 8)]
    assert seconds == pytest.approx(sorted(seconds), rel=1e-9)


def test_depthwise_with_channels_last_counts_in_32_bits() -> None:
    work = Work(kind=Kind.DEPTHWISE, dtype="float16", window=9, is_channels_last=True,
                elements=2.0**31 - 256, flops=18 * 2.0**31)  # fmt: skip
    assert compute(work, elements=2.0**31) > 4 * compute(work)


def test_what_fits_in_the_cache_is_read_from_there() -> None:
    size = float(MODEL.device.l2_bytes or 0)
    small, large = (
        kernel_time(Kind.ELEMENTWISE, work, MODEL.rates(work), MODEL.coefficients).memory
        for work in (Work(kind=Kind.ELEMENTWISE, read_bytes=size * k) for k in (0.1, 10.0))
    )
    assert large > 120 * small


# --------------------------------------------------------------------------- compiled


class Rms(nn.Module):
    """A norm made of elementary operators."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Tiled(nn.Module):
    """A quotient by what was expanded and copied."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        most = x.amax(-1, keepdim=True)
        return x / most.expand_as(x).reshape(x.shape)


@pytest.mark.parametrize("model", [Rms(), Tiled()])
def test_what_is_made_of_a_reduction_joins_its_kernel(model: nn.Module) -> None:
    size = 128 * 64 * 64 * 4
    traced(model, (128, 64, 64))  # an operator's first run in a process keeps its result longer
    issues = list(fused(traced(model, (128, 64, 64)), MODEL.coefficients))
    assert [(w.kind, w.read_bytes, w.written_bytes) for i in issues for w in i.works] == [
        (Kind.REDUCTION, size, size)
    ]


class Concatenated(nn.Module):
    """Products that are joined, and activated."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.cat([layer(x) for layer in self.layers], dim=1))


@pytest.mark.parametrize(("count", "further"), [(8, 1), (9, 2)])
def test_of_many_tensors_each_is_copied_before_others_read_them(count: int, further: int) -> None:
    issues = list(fused(traced(Concatenated(count), (4096, 64)), MODEL.coefficients))
    assert len(issues) == count + further
