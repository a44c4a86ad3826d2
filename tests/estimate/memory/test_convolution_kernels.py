"""What convolutions take beyond their results, operator by operator, against the profiler.

Which of oneDNN's kernels runs decides it: those with blocks of channels, for large kernels those
that unfold images. The caches are those of the machine, as it is they that choose the blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from real_step import memory_profile
from torchgauge.estimate.memory.workspaces import Platform, workspaces_for
from torchgauge.estimate.memory.workspaces.platform import Caches
from torchgauge.facts.trace import ArgumentValue, OpRecord, Phase, TensorSpec
from torchgauge.trace.record.kernel_memory import one_thread
from torchgauge.trace.shapes.layouts import layout_of
from torchgauge.trace.torch_internals.profiler import memory_changes

pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="oneDNN's kernels are known for AVX-512 alone",
)
_CACHE = Path("/sys/devices/system/cpu/cpu0/cache")


def caches() -> Caches:
    """Return this machine's caches, where Linux tells them."""
    found = {}
    for index in _CACHE.glob("index*"):
        level, kind, size = ((index / name).read_text() for name in ("level", "type", "size"))
        if kind.strip() != "Instruction":
            found[int(level)] = int(size.strip().removesuffix("K")) * 1024
    default = Caches()
    return Caches(first=found.get(1, default.first), second=found.get(2, default.second))


def spec(tensor: torch.Tensor | None) -> TensorSpec | None:
    if tensor is None:
        return None
    name = str(tensor.dtype).removeprefix("torch.")
    nbytes = tensor.numel() * tensor.element_size()
    return TensorSpec(shape=tuple(tensor.shape), dtype=name, device="cpu", nbytes=nbytes)


def said(name: str, given: tuple[Any, ...], outputs: tuple[torch.Tensor, ...]) -> int:
    """Return what the rules say that an operator takes beyond its outputs."""
    tensors = [value for value in given if isinstance(value, torch.Tensor)]
    args: list[ArgumentValue] = []
    for value in given:
        listed = tuple(value) if isinstance(value, list) else value
        args.append(spec(value) if isinstance(value, torch.Tensor) else listed)
    op = OpRecord(
        index=0, name=f"aten.{name}.default", args=tuple(args), kwargs=(), call=-1,
        phase=Phase.FORWARD, outputs=tuple(s for s in map(spec, outputs) if s is not None),
        layouts=tuple(map(layout_of, tensors)),
    )  # fmt: skip
    return sum(workspaces_for(Platform(type="cpu", caches=caches()))(op))


@one_thread()
def taken(run: Callable[[], tuple[torch.Tensor, ...]]) -> int:
    """Return the most bytes that an operator has beyond its outputs."""
    run()  # oneDNN makes a kernel once
    sizes: list[int] = []
    for _ in range(3):  # on a busy machine the profiler may come back with nothing
        with memory_profile() as profiler:
            outputs = run()
        sizes = [size for _, size in memory_changes(profiler.profiler)]
        if sizes:
            break
    total = peak = 0
    for size in sizes:
        total += size
        peak = max(peak, total)
    return peak - sum(value.untyped_storage().nbytes() for value in outputs)


def check(
    source: tuple[int, ...], weight: tuple[int, ...], *, stride: int = 1, padding: int = 0,
    dilation: int = 1, groups: int = 1, bias: bool = False, transposed: bool = False,
    extra: int = 0, dtype: torch.dtype = torch.float32, last: bool = False, swapped: bool = False,
) -> None:  # fmt: skip
    """Compare the output's scratch memory, and that of all gradients."""
    spatial = len(weight) - 2
    outputs = weight[1] * groups if transposed else weight[0]
    x, w = torch.randn(source, dtype=dtype), torch.randn(weight, dtype=dtype)
    b = torch.randn(outputs, dtype=dtype) if bias else None
    if last:
        wanted = torch.channels_last if spatial == 2 else torch.channels_last_3d
        x = x.to(memory_format=wanted)
    if swapped:
        x = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    steps = ([stride] * spatial, [padding] * spatial, [dilation] * spatial)
    rest = (*steps, transposed, [extra] * spatial, groups)
    with torch.no_grad():
        y = torch.ops.aten.convolution(x, w, b, *rest)
        real = taken(lambda: (torch.ops.aten.convolution(x, w, b, *rest),))
        assert said("convolution", (x, w, b, *rest), (y,)) == real, "output"
        gradient = torch.randn_like(y)
        sizes, mask = [outputs] if bias else None, [True, True, bias]
        given = (gradient, x, w, sizes, *rest, mask)
        run = torch.ops.aten.convolution_backward
        found = tuple(value for value in run(*given) if value is not None)
        real = taken(lambda: tuple(value for value in run(*given) if value is not None))
        assert said("convolution_backward", given, found) == real, "gradients"


LARGE: dict[str, dict[str, Any]] = {
    "15": {"source": (1, 16, 32, 32), "weight": (32, 16, 15, 15), "padding": 7, "bias": True},
    "14": {"source": (1, 16, 32, 32), "weight": (32, 16, 14, 14), "padding": 7},
    "13": {"source": (2, 16, 32, 32), "weight": (32, 16, 13, 13), "padding": 6},
    "21": {"source": (3, 20, 28, 28), "weight": (10, 20, 21, 21), "padding": 10, "bias": True},
    "31": {"source": (2, 4, 33, 33), "weight": (8, 4, 31, 31), "padding": 15},
    "17, no padding": {"source": (2, 32, 24, 24), "weight": (24, 32, 17, 17)},
    "17, stride": {"source": (3, 4, 32, 32), "weight": (64, 4, 17, 17), "stride": 3, "padding": 1},
    "13, stride": {
        "source": (1, 8, 56, 56), "weight": (32, 8, 13, 13), "stride": 2, "padding": 6,
        "bias": True,
    },
    "25, stride": {
        "source": (2, 12, 32, 32), "weight": (64, 12, 25, 25), "stride": 3, "padding": 12
    },
    "16, patches": {"source": (2, 3, 64, 64), "weight": (48, 3, 16, 16), "stride": 16},
    "11, groups": {"source": (2, 32, 24, 24), "weight": (24, 16, 11, 11), "groups": 2},
    "7, groups of few": {"source": (3, 4, 24, 24), "weight": (48, 2, 7, 7), "groups": 2},
    "depthwise, 7": {
        "source": (2, 32, 32, 32), "weight": (32, 1, 7, 7), "padding": 3, "groups": 32,
        "bias": True,
    },
    "depthwise, 15": {
        "source": (2, 32, 32, 32), "weight": (32, 1, 15, 15), "padding": 7, "groups": 32
    },
    "depthwise, 31": {
        "source": (2, 24, 32, 32), "weight": (24, 1, 31, 31), "padding": 15, "groups": 24,
        "bias": True,
    },
    "depthwise, 31, small images": {
        "source": (2, 64, 14, 14), "weight": (64, 1, 31, 31), "padding": 15, "groups": 64
    },
    "depthwise, twice as many": {
        "source": (2, 16, 24, 24), "weight": (32, 1, 9, 9), "padding": 4, "groups": 16
    },
}  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "a stride that leaves pixels out": {
        "source": (2, 96, 28, 28), "weight": (32, 96, 3, 3), "stride": 3
    },
    "one pixel, padded": {"source": (3, 8, 24, 24), "weight": (10, 8, 1, 1), "padding": 1},
    "one pixel, stride of three": {
        "source": (2, 3, 14, 14), "weight": (24, 3, 1, 1), "stride": 3
    },
    "one pixel, groups": {"source": (16, 4, 28, 28), "weight": (6, 2, 1, 1), "groups": 2},
    "one pixel, each channel": {"source": (2, 20, 14, 14), "weight": (20, 1, 1, 1), "groups": 20},
    "groups of 24": {"source": (2, 96, 28, 28), "weight": (32, 24, 3, 3), "groups": 4},
    "groups with a stride": {
        "source": (3, 64, 28, 28), "weight": (64, 32, 3, 3), "stride": 2, "padding": 1, "groups": 2
    },
    "gaps and a stride": {
        "source": (8, 48, 33, 33), "weight": (10, 48, 3, 3), "stride": 2, "dilation": 2
    },
    "gaps, one image": {
        "source": (1, 20, 16, 28), "weight": (3, 20, 2, 3), "dilation": 2, "bias": True
    },
    "a GAN's first layer": {
        "source": (4, 1, 28, 28), "weight": (64, 1, 4, 4), "stride": 2, "padding": 1
    },
    "one channel to one": {"source": (1, 1, 56, 56), "weight": (1, 1, 11, 11), "stride": 2},
    "depthwise, a volume": {
        "source": (2, 20, 6, 8, 10), "weight": (20, 1, 3, 3, 3), "padding": 1, "groups": 20,
        "bias": True,
    },
    "depthwise, a volume with a stride": {
        "source": (1, 8, 16, 8, 8), "weight": (8, 1, 3, 3, 3), "stride": 2, "padding": 1,
        "groups": 8,
    },
    "depthwise, gaps in a volume": {
        "source": (2, 16, 8, 8, 8), "weight": (16, 1, 3, 3, 3), "dilation": 2, "groups": 16
    },
}  # fmt: skip

LAST: dict[str, dict[str, Any]] = {
    "images": {"source": (2, 3, 32, 32), "weight": (32, 3, 7, 7), "stride": 2, "padding": 3},
    "ordinary": {"source": (2, 48, 24, 24), "weight": (40, 48, 3, 3), "padding": 1, "bias": True},
    "twelve channels": {"source": (2, 12, 24, 24), "weight": (10, 12, 3, 3), "bias": True},
    "stride": {"source": (3, 64, 24, 24), "weight": (64, 64, 4, 4), "stride": 2, "padding": 1},
    "stride, uneven": {"source": (2, 48, 16, 28), "weight": (32, 48, 5, 5), "stride": 3},
    "one pixel": {"source": (16, 48, 9, 33), "weight": (16, 48, 1, 1)},
    "one pixel, many": {"source": (16, 32, 9, 33), "weight": (40, 32, 1, 1), "bias": True},
    "one pixel, stride": {"source": (16, 48, 20, 16), "weight": (10, 48, 1, 1), "stride": 2},
    "one image of a few channels": {
        "source": (1, 16, 28, 32), "weight": (128, 16, 3, 3), "stride": 2, "padding": 1
    },
    "large": {"source": (2, 16, 32, 32), "weight": (8, 16, 15, 15), "padding": 7},
    "gaps": {"source": (2, 20, 28, 28), "weight": (32, 20, 3, 3), "dilation": 2},
    "gaps and a stride": {
        "source": (2, 48, 16, 13), "weight": (40, 48, 3, 3), "stride": 2, "dilation": 3,
        "padding": 4, "bias": True,
    },
    "groups of few": {"source": (8, 16, 24, 24), "weight": (96, 4, 3, 3), "groups": 4},
    "groups of eight": {"source": (3, 32, 20, 20), "weight": (32, 8, 3, 3), "groups": 4},
    "groups of many": {"source": (2, 48, 24, 24), "weight": (96, 24, 3, 3), "groups": 2},
    "depthwise": {
        "source": (8, 64, 14, 14), "weight": (64, 1, 3, 3), "padding": 1, "groups": 64,
        "bias": True,
    },
    "depthwise, 7": {
        "source": (2, 96, 14, 14), "weight": (96, 1, 7, 7), "padding": 3, "groups": 96
    },
    "depthwise, 31": {
        "source": (2, 32, 14, 14), "weight": (32, 1, 31, 31), "padding": 15, "groups": 32
    },
    "a volume": {"source": (2, 12, 12, 4, 7), "weight": (8, 12, 3, 3, 3), "padding": 1},
    "one small volume": {"source": (1, 6, 4, 7, 7), "weight": (10, 6, 2, 2, 2), "bias": True},
}  # fmt: skip
TRANSPOSED: dict[str, dict[str, Any]] = {
    "ordinary": {"source": (2, 64, 16, 16), "weight": (64, 24, 3, 3), "padding": 1, "bias": True},
    "stride": {"source": (2, 48, 16, 16), "weight": (48, 40, 4, 4), "stride": 2, "padding": 1},
    "uneven": {"source": (4, 16, 20, 16), "weight": (16, 24, 3, 3), "stride": 2},
    "uneven, bias": {
        "source": (4, 48, 20, 16), "weight": (48, 16, 5, 5), "stride": 3, "padding": 2,
        "bias": True,
    },
    "a line, uneven": {"source": (8, 12, 40), "weight": (12, 64, 3), "stride": 2, "bias": True},
    "further out": {
        "source": (2, 32, 9, 9), "weight": (32, 16, 3, 3), "stride": 2, "padding": 1, "extra": 1,
        "bias": True,
    },
    "gaps and a stride": {
        "source": (4, 48, 28, 28), "weight": (48, 5, 5, 5), "stride": 3, "padding": 7,
        "dilation": 3, "bias": True,
    },
    "one pixel, one image": {"source": (1, 96, 9, 28), "weight": (96, 24, 1, 1), "bias": True},
    "one pixel, groups": {"source": (2, 64, 28, 16), "weight": (64, 8, 1, 1), "groups": 2},
    "large": {"source": (2, 16, 24, 24), "weight": (16, 8, 15, 15), "padding": 7},
    "depthwise": {
        "source": (4, 16, 20, 24), "weight": (16, 1, 5, 5), "stride": 2, "groups": 16,
        "bias": True,
    },
    "groups of few": {"source": (2, 4, 32, 8), "weight": (4, 3, 3, 3), "groups": 2, "bias": True},
    "a volume of one pixel": {
        "source": (1, 16, 6, 6, 7), "weight": (16, 64, 1, 1, 1), "bias": True
    },
    "one volume": {"source": (1, 8, 4, 6, 8), "weight": (8, 6, 3, 3, 3), "bias": True},
    "a volume, stride": {"source": (2, 24, 5, 6, 7), "weight": (24, 16, 2, 2, 2), "stride": 2},
}  # fmt: skip
TRANSPOSED_LAST = [
    "ordinary", "stride", "uneven, bias", "gaps and a stride", "one pixel, groups", "depthwise",
    "a volume, stride",
]  # fmt: skip
DOUBLE: dict[str, dict[str, Any]] = {
    "ordinary": {"source": (3, 8, 20, 20), "weight": (24, 8, 3, 3), "padding": 1, "bias": True},
    "a line": {"source": (4, 8, 40), "weight": (10, 8, 5)},
    "one pixel": {"source": (3, 8, 20, 20), "weight": (24, 8, 1, 1)},
    "groups": {"source": (3, 8, 20, 20), "weight": (24, 2, 3, 3), "groups": 4, "bias": True},
    "gaps": {"source": (3, 8, 20, 20), "weight": (24, 8, 3, 3), "dilation": 2},
    "a volume": {"source": (2, 4, 6, 8, 8), "weight": (5, 4, 3, 3, 3), "bias": True},
    "depthwise": {"source": (2, 16, 20, 20), "weight": (16, 1, 3, 3), "groups": 16},
    "transposed": {
        "source": (2, 8, 10, 10), "weight": (8, 6, 4, 4), "stride": 2, "padding": 1,
        "transposed": True, "bias": True,
    },
    "a transposed volume": {
        "source": (2, 4, 6, 8, 8), "weight": (4, 5, 3, 3, 3), "transposed": True, "bias": True
    },
}  # fmt: skip


@pytest.mark.parametrize("case", LAST)
def test_channels_last(case: str) -> None:
    check(**LAST[case], last=True)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed(case: str) -> None:
    check(**TRANSPOSED[case], transposed=True)


SWAPPED: dict[str, dict[str, Any]] = {
    "ordinary": {"source": (2, 20, 16, 18), "weight": (24, 20, 3, 3), "padding": 1},
    "one image": {"source": (1, 4, 16, 18), "weight": (5, 4, 3, 3), "bias": True},
    "depthwise": {"source": (2, 16, 16, 18), "weight": (16, 1, 5, 5), "groups": 16},
    "a volume": {"source": (2, 4, 6, 10, 8), "weight": (8, 4, 1, 1, 1), "stride": 2},
    "transposed": {
        "source": (2, 16, 12, 10), "weight": (16, 8, 3, 3), "transposed": True, "bias": True
    },
    "transposed, a volume": {
        "source": (4, 4, 6, 10, 8), "weight": (4, 8, 1, 1, 1), "stride": 2, "transposed": True
    },
    "groups, pixel by pixel": {
        "source": (4, 16, 12, 10), "weight": (24, 4, 1, 1), "groups": 4, "bias": True
    },
    "depthwise, pixel by pixel": {
        "source": (4, 16, 12, 10), "weight": (16, 1, 1, 1), "groups": 16
    },
    "transposed groups, pixel by pixel": {
        "source": (2, 16, 12, 10), "weight": (16, 2, 1, 1), "groups": 4, "transposed": True
    },
}  # fmt: skip


@pytest.mark.parametrize("case", SWAPPED)
def test_images_of_swapped_sides(case: str) -> None:
    check(**SWAPPED[case], swapped=True)


@pytest.mark.parametrize("case", TRANSPOSED_LAST)
def test_transposed_channels_last(case: str) -> None:
    check(**TRANSPOSED[case], transposed=True, last=True)


@pytest.mark.parametrize("case", DOUBLE)
def test_double_precision(case: str) -> None:
    check(**DOUBLE[case], dtype=torch.float64)


@pytest.mark.parametrize("case", SWAPPED)
def test_double_precision_of_swapped_sides(case: str) -> None:
    check(**SWAPPED[case], dtype=torch.float64, swapped=True)


@pytest.mark.parametrize("case", LARGE)
def test_large_kernels(case: str) -> None:
    check(**LARGE[case])


@pytest.mark.parametrize("case", OTHERS)
def test_other_kernels(case: str) -> None:
    check(**OTHERS[case])
