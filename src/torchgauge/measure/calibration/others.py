"""What to time of all other operators: element-wise work, rows, windows, copies."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import torch

from torchgauge.measure.calibration.case import (
    Case,
    Cold,
    Fresh,
    Spread,
    between,
    channels,
    chosen,
    side,
)

aten = torch.ops.aten

ELEMENTS: Final = (16, 4_096, 32_768, 131_072, 524_288, 2_097_152, 6_291_456)
"""Of a curve: from next to nothing to what no cache holds."""

_ONE: Final = (
    "abs", "ceil", "cos", "elu", "erf", "exp", "gelu", "hardsigmoid", "hardswish", "hardtanh",
    "leaky_relu", "log", "log_sigmoid_forward", "logical_not", "mish", "neg", "reciprocal", "relu",
    "rsqrt", "sigmoid", "sign", "silu", "sin", "softplus", "sqrt", "tanh",
    "elu_", "hardswish_", "hardtanh_", "leaky_relu_", "neg_", "relu_", "sigmoid_", "silu_",
    "sqrt_", "tanh_", "zero_", "zeros_like", "ones_like",
)  # fmt: skip
"""Of one tensor; with default arguments."""
_TWO: Final = (
    "add.Tensor", "add_.Tensor", "copy_.default", "div.Tensor", "div_.Tensor", "eq.Tensor",
    "ge.Tensor", "gelu_backward.default", "hardsigmoid_backward.default",
    "hardswish_backward.default", "maximum.default", "minimum.default", "mish_backward.default",
    "mul.Tensor", "mul_.Tensor", "pow.Tensor_Tensor", "sigmoid_backward.default",
    "silu_backward.default", "sub.Tensor", "sub_.Tensor", "tanh_backward.default",
)  # fmt: skip
_BROADCAST: Final = (
    "add.Tensor", "add_.Tensor", "div.Tensor", "mul.Tensor", "mul_.Tensor", "sub.Tensor",
)  # fmt: skip
_POSITIVE: Final = ("log", "pow", "rsqrt", "sqrt", "sqrt_")
_WITH_NUMBERS: Final[tuple[tuple[str, tuple[Any, ...]], ...]] = (
    *((f"{name}.Scalar", (0.0,)) for name in ("gt", "lt", "ge", "le", "eq", "ne")),
    *((f"{name}.Scalar", (1.5,)) for name in ("add", "mul", "div", "sub")),
    *((f"{name}.Scalar", (1.5,)) for name in ("add_", "mul_", "div_")),
    ("pow.Tensor_Scalar", (2,)),
    ("clamp.default", (0.0, 1.0)),
    ("clamp_min.default", (0.0,)),
    ("native_dropout.default", (0.1, True)),
    ("bernoulli_.float", (0.9,)),
    ("fill_.Scalar", (0.5,)),
    ("masked_fill.Scalar", (torch.tensor(True), 0.0)),
)
"""Of one tensor, with what follows it."""
_GRADIENTS: Final[tuple[tuple[str, tuple[Any, ...]], ...]] = (
    ("threshold_backward.default", (0.0,)),
    ("hardtanh_backward.default", (0.0, 6.0)),
    ("leaky_relu_backward.default", (0.01, False)),
    ("softplus_backward.default", (1.0, 20.0)),
)
"""Of two tensors, with what follows them."""


def others() -> Iterator[Case]:
    """Yield all of them."""
    for size in ELEMENTS:
        yield from _elementwise(size)
        yield from _of_optimizers(size)
        yield from _copied(size)
        yield from _images(size)
        yield _case("cumsum.default", Fresh((size // 16, 16)), 1)
    for cases, count in (
        (_batch_norms(), 50),
        (_row_wise(32, 8192), 50),
        (_row_wise(4, 31), 30),
        (_softmax_across(), 30),
        (_ordered(), 30),
        (_resampled(), 60),
        (_reductions(), 35),
        (_windows(2, 3, 3), 45),
        (_windows(5, 7, 13), 30),
    ):
        for found in islice(cases, count):
            yield from found
    yield from islice(_tables(), 25)


def _case(name: str, *given: Any, **named: Any) -> Case:
    packet, _, overload = name.partition(".")
    op = getattr(getattr(aten, packet), overload or "default")
    return Case(op=op, given=given, named=named)


def _elementwise(size: int) -> Iterator[Case]:
    x = Fresh((size,))
    for name in _ONE:
        yield _case(name, Fresh((size,), is_positive=name in _POSITIVE))
    for name in _TWO:
        y = Fresh((size,), is_positive=name.partition(".")[0] in _POSITIVE)
        yield _case(name, y, y)
    inner = min(64, size)
    for name in _BROADCAST:
        yield _case(name, Fresh((size // inner, inner)), Cold((inner,)))
    yield _case("mul.Tensor", Fresh((size // 16, 16)), Fresh((size // 16, 1)))
    for name, rest in _WITH_NUMBERS:
        yield _case(name, x, *rest)
    for name, rest in _GRADIENTS:
        yield _case(name, x, x, *rest)
    yield _case("elu_backward.default", x, 1.0, 1.0, 1.0, False, x)
    truth = torch.rand(size) > 0.5
    yield _case("where.self", truth, x, x)
    yield _case("native_dropout_backward.default", x, truth, 1.1)
    for name in ("zeros.default", "ones.default"):
        yield _case(name, [size])
    yield _case("full.default", [size], 0.5)
    yield _case("arange.default", size)
    yield _case("_to_copy", x, dtype=torch.bfloat16)


def _of_optimizers(size: int) -> Iterator[Case]:
    """Weights, gradients and states: all cold. The numbers change nothing in the shared memory."""
    cold = Cold((size,))
    yield _case("lerp_.Scalar", cold, cold, 0.0)
    yield _case("addcmul_.default", cold, cold, cold, value=0.0)
    yield _case("addcdiv_.default", cold, cold, Fresh((size,), is_positive=True), value=0.0)


def _copied(size: int) -> Iterator[Case]:
    permuted = Cold((max(1, size // 16), 4, 4), order=(1, 0, 2))
    yield _case("clone.default", permuted, memory_format=torch.contiguous_format)
    for parts in (2, 4, 16):
        pieces = [Fresh((size // parts,))] * parts
        yield _case("cat.default", pieces, 0)
        yield _case("stack.default", pieces, 0)


def _images(size: int) -> Iterator[Case]:
    """``[1, c, h, w]``: with the elements, the images grow and the channels too."""
    side = max(1, round((size / 32) ** 0.5 / 4))
    x = Fresh((1, max(1, size // side**2), side, side))
    c, pixels = x.shape[1], side * side
    if side > 1 and c % 2 == 0:
        norm = (Cold((c,)), Cold((c,)), 1, c, pixels, 2, 1e-5)
        yield _case("native_group_norm.default", x, *norm)
        stats = Fresh((1, 2)), Fresh((1, 2)), Cold((c,))
        rest = (1, c, pixels, 2, [True, True, True])
        yield _case("native_group_norm_backward.default", x, x, *stats, *rest)
    yield _case("_adaptive_avg_pool2d.default", x, [1, 1])
    yield _case("constant_pad_nd.default", x, [1, 1, 1, 1])


def _batch_norms() -> Iterator[Iterator[Case]]:
    for batch, image, width in Spread(3, seed=24):
        n, size, c = between(batch, 1, 32), side(image, 1, 112), between(width, 8, 2048)
        if n * c * size * size <= 6e6:
            yield _batch_norm((n, c, size, size))


def _batch_norm(shape: tuple[int, ...]) -> Iterator[Case]:
    x, c = Fresh(shape), shape[1]
    given = (x, Cold((c,)), Cold((c,)), Fresh((c,)), Fresh((c,), is_positive=True))
    yield _case("native_batch_norm.default", *given, False, 0.1, 1e-5)
    yield _case("native_batch_norm.default", *given, True, 0.1, 1e-5)
    stats = (Cold((c,)), Cold((c,)), Cold((c,)), Fresh((c,)), Fresh((c,)))
    wanted = [True, True, True]
    yield _case("native_batch_norm_backward.default", x, x, *stats, True, 1e-5, wanted)


def _row_wise(shortest: int, longest: int) -> Iterator[Iterator[Case]]:
    for first, second in Spread(2, seed=20):
        rows, inner = between(first, 1, 65_536), between(second, shortest, longest)
        if rows * inner <= 6e6:
            yield _on_rows(rows, inner)


def _on_rows(rows: int, inner: int) -> Iterator[Case]:
    x, one = Fresh((rows, inner)), Fresh((rows, 1))
    weight, wanted = Cold((inner,)), [True, True, True]
    yield _case("native_layer_norm", x, [inner], weight, weight, 1e-5)
    yield _case("native_layer_norm_backward", x, x, [inner], one, one, weight, weight, wanted)
    yield _case("_softmax", x, -1, False)
    yield _case("_log_softmax", x, -1, False)
    yield _case("_softmax_backward_data", x, x, -1, torch.float32)
    yield _case("_log_softmax_backward_data", x, x, -1, torch.float32)


def _softmax_across() -> Iterator[Iterator[Case]]:
    """Over the channels of images, as where every pixel is told a class."""
    for first, second in Spread(2, seed=25):
        pixels, c = between(first, 16, 65_536), between(second, 2, 512)
        if pixels * c <= 4e6:
            yield _on_columns(Fresh((1, c, pixels)))


def _on_columns(x: Fresh) -> Iterator[Case]:
    yield _case("_softmax", x, 1, False)
    yield _case("_log_softmax", x, 1, False)
    yield _case("_softmax_backward_data", x, x, 1, torch.float32)
    yield _case("_log_softmax_backward_data", x, x, 1, torch.float32)


def _ordered() -> Iterator[Iterator[Case]]:
    for first, second in Spread(2, seed=26):
        rows, inner = between(first, 1, 4096), between(second, 8, 65_536)
        if rows * inner <= 1e6:
            x = Fresh((rows, inner))
            yield iter((_case("topk", x, min(inner, 5)), _case("sort", x)))


def _resampled() -> Iterator[Iterator[Case]]:
    for batch, image, width, growth in Spread(4, seed=27):
        n, size, c = between(batch, 1, 16), side(image, 4, 112), channels(width, 3, 512)
        times = chosen(growth, 2, 2, 4, 8)
        if n * c * (times * size) ** 2 * 4 <= 30e6:
            yield _resized((n, c, size, size), times)


def _resized(shape: tuple[int, ...], times: int) -> Iterator[Case]:
    n, c, height, width = shape
    large = [times * height, times * width]
    x, gradient = Fresh(shape), Fresh((n, c, *large))
    yield _case("upsample_nearest2d", x, large)
    yield _case("upsample_nearest2d_backward", gradient, large, list(shape))
    yield _case("upsample_bilinear2d", x, large, False)
    yield _case("upsample_bilinear2d_backward", gradient, large, list(shape), False)


def _reductions() -> Iterator[Iterator[Case]]:
    for first, second in Spread(2, seed=21):
        rows, inner = between(first, 2, 16_384), between(second, 2, 16_384)
        if rows * inner <= 8e6:
            yield _reduced(Fresh((rows, inner)))


def _reduced(x: Fresh) -> Iterator[Case]:
    for name in ("sum.dim_IntList", "mean.dim"):
        yield _case(name, x, [1], True)
        yield _case(name, x, [0], True)
    yield _case("amax.default", x, [1])
    yield _case("var.correction", x, [1])
    for dim in (1, 0):
        yield _case("max.dim", x, dim)
        yield _case("argmax.default", x, dim)
    yield _case("linalg_vector_norm.default", x)


def _windows(*kernels: int) -> Iterator[Iterator[Case]]:
    for batch, image, width, kernel in Spread(4, seed=22):
        n, size, c = between(batch, 1, 16), side(image, 4, 112), between(width, 8, 1024)
        if n * c * size * size <= 2e6:
            k, stride = chosen(kernel, *kernels), chosen((7 * kernel) % 1, 1, 2, 2)
            yield _pooled((n, c, size * stride, size * stride), k, stride)


def _pooled(shape: tuple[int, ...], k: int, stride: int) -> Iterator[Case]:
    pad = k // 2 if k > 2 else 0
    window = ([k, k], [stride, stride], [pad, pad])
    found, places = aten.max_pool2d_with_indices.default(torch.randn(shape), *window)
    x, result = Fresh(shape), Fresh(tuple(found.shape))
    yield _case("max_pool2d_with_indices", x, *window)
    yield _case("max_pool2d_with_indices_backward", result, x, *window, [1, 1], False, places)
    yield _case("avg_pool2d", x, *window)
    yield _case("avg_pool2d_backward", result, x, *window, False, True, None)


def _tables() -> Iterator[Case]:
    for many, width, table in Spread(3, seed=23):
        rows, inner = between(many, 1, 16_384), between(width, 8, 2048)
        entries = between(table, 16, 50_000)
        if rows * inner <= 4e6 and entries * inner <= 2e7:
            yield _case("embedding", Cold((entries, inner)), torch.randint(0, entries, (rows,)))
