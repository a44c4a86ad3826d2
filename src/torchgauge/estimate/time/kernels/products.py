"""Operators that multiply, as kernels: matrix products, attention, convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Final

from torchgauge.estimate.arguments import argument, given_tensors, mask, real_products
from torchgauge.estimate.compute.registry import find_flop_formula
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.estimate.time.kernels.traffic import moved, traffic
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec

ALIGNED: Final = 8
"""Channels that tensor cores take together in half precision; fewer are padded to as many there.

Source: NVIDIA, Deep Learning Performance Guide, "Convolutional Layers", channels in and out.
"""
BLOCK: Final = 64
"""Keys that a fused attention handles together: blocks on the diagonal are computed whole."""


def matmul(op: OpRecord) -> Iterator[Work]:
    """``(bias?, left: […, m, k], right: […, k, n])``."""
    matrices = [tensor for tensor in given_tensors(op) if len(tensor.shape) >= 2][-2:]
    if len(matrices) < 2 or not op.outputs:
        yield traffic(op, Kind.REDUCTION)
        return
    left, right = matrices
    output = op.outputs[0]
    inner = left.shape[-1]
    columns = output.shape[-1] if output.shape else 1
    rows = output.shape[-2] if len(output.shape) > 1 else 1
    batch = prod(output.shape[:-2]) * real_products(op)  # a complex one is four of real numbers
    yield Work(
        kind=Kind.MATMUL,
        dtype=left.dtype,
        flops=2.0 * batch * rows * columns * inner,
        elements=max(left.numel, right.numel, output.numel),
        read_bytes=sum(tensor.nbytes for tensor in given_tensors(op)),
        written_bytes=output.nbytes,
        rows=rows,
        columns=columns,
        inner=inner,
        batch=batch,
        is_unaligned="16" in left.dtype and (columns % ALIGNED > 0 or inner % ALIGNED > 0),
    )


def product_of_unknown_shape(op: OpRecord, flops: int) -> Work:
    """Return a product whose sides are taken as a cube's: recurrent networks, linear algebra."""
    base = traffic(op, Kind.MATMUL)
    side = (flops / 2) ** (1 / 3)
    dtype = base.dtype if "float" in base.dtype else "float32"
    return replace(
        base, kind=Kind.MATMUL, dtype=dtype, flops=flops, rows=side, columns=side, inner=side
    )


def recurrent(op: OpRecord) -> Iterator[Work]:
    """``(x: [l, n, e] or packed [Σ, e], weights, stride, …)`` of cuDNN, or its backward.

    A layer multiplies all of its input at once, and then its state at every step: the steps wait
    for each other. So it is with the gradients of the state; those of all weights are whole.
    """
    is_backward = "backward" in op.name
    x, hidden = given_tensors(op)[0], argument(op, 4, "hx")
    stride, weights = argument(op, 2, "weight_stride0"), argument(op, 1, "weight")
    assert isinstance(stride, int) and isinstance(weights, tuple)
    assert isinstance(hidden, TensorSpec)
    tokens, batch = prod(x.shape[:-1]), hidden.shape[-2]
    steps = tokens / batch
    wanted = is_backward and any((mask(op, 21) or (True,) * 4)[3:])
    for index, weight in enumerate(weights):
        if not isinstance(weight, TensorSpec) or len(weight.shape) != 2:
            continue
        rows, inner = weight.shape
        size = weight.nbytes / weight.numel
        whole = Work(
            kind=Kind.MATMUL,
            dtype=weight.dtype,
            flops=2.0 * tokens * weight.numel,
            elements=tokens * rows,
            read_bytes=weight.nbytes + tokens * inner * size,
            written_bytes=tokens * rows * size,
            rows=tokens,
            columns=rows,
            inner=inner,
        )
        is_state = index % stride > 0
        waiting = replace(
            whole,
            kind=Kind.RECURRENT,
            read_bytes=steps * weight.nbytes + 2.0 * whole.written_bytes,
            rows=batch,
            window=steps,
        )
        yield waiting if is_state else whole
        if wanted:
            yield replace(whole, rows=inner, inner=tokens)


def attention(op: OpRecord, causal_at: int) -> Iterator[Work]:
    """``(q, k, v: [b, h, l, e], …)``, after the gradient in a backward.

    ``causal_at`` is where ``is_causal`` stands among the arguments.
    """
    formula = find_flop_formula(op.name)
    given = given_tensors(op)
    causal = argument(op, causal_at, "is_causal")
    query, key = given[1:3] if "backward" in op.name else given[:2]
    assert formula is not None
    yield Work(
        kind=Kind.ATTENTION,
        dtype=query.dtype,
        flops=formula(op),
        elements=query.numel,
        read_bytes=sum(tensor.nbytes for tensor in given),
        written_bytes=sum(tensor.nbytes for tensor in op.outputs),
        rows=query.shape[-2],
        columns=key.shape[-2],
        inner=query.shape[-1],
        batch=prod(query.shape[:-2]),
        share=min(1.0, 0.5 + BLOCK / key.shape[-2]) if causal else 1.0,
        is_portable="_cudnn_" not in op.name,
    )


def convolution(op: OpRecord) -> Iterator[Work]:
    """``(x: [n, c, …], weight: [o, c/g, …], bias, stride, …, transposed, …, groups)``."""
    source, weight = given_tensors(op)[:2]
    output = op.outputs[0]
    wide = source if argument(op, 6, "transposed") else output
    size = _Size(weight, wide, _groups(op, 8))
    yield _convolution(op, size, (source, weight, output), (size.pixels, size.outputs, size.filter))


def convolution_backward(op: OpRecord) -> Iterator[Work]:
    """``(grad, x, weight, …, transposed, …, groups, output_mask)``: a product per gradient."""
    gradient, source, weight = given_tensors(op)[:3]
    wanted = mask(op, 10) or (True, True, True)
    wide = source if argument(op, 7, "transposed") else gradient
    size = _Size(weight, wide, _groups(op, 9))
    if wanted[0]:
        pixels = source.shape[0] * prod(source.shape[2:])
        inner = size.flops / (2.0 * size.groups * size.inputs * max(1, pixels))
        sides = (pixels, size.inputs, inner)
        product = _convolution(op, size, (gradient, weight, source), sides)
        yield replace(product, is_data_gradient=True, padding=0.0)
    if wanted[1]:
        sides = (size.filter, size.outputs, size.pixels)
        product = _convolution(op, size, (gradient, source, weight), sides)
        yield replace(product, is_filter_gradient=True, is_uneven_group=False)
    if len(wanted) > 2 and wanted[2]:
        yield replace(moved(gradient, Kind.REDUCTION), written_bytes=0.0)


class _Size:
    """A convolution as a product: pixels by output channels over elements of a filter."""

    def __init__(self, weight: TensorSpec, wide: TensorSpec, groups: int) -> None:
        self.weight = weight
        self.groups = groups
        self.pixels = wide.shape[0] * prod(wide.shape[2:])
        self.outputs, self.inputs = weight.shape[0] // groups, weight.shape[1]
        self.window = prod(weight.shape[2:])
        self.flops = 2.0 * groups * self.pixels * self.outputs * self.inputs * self.window
        self.filter = self.inputs * self.window
        self.padding = -self.inputs % ALIGNED * self.window if "16" in weight.dtype else 0

    @property
    def is_unaligned(self) -> bool:
        """Return whether tensor cores do not divide the channels evenly; an image has too few."""
        return any(side % ALIGNED and side > ALIGNED for side in (self.inputs, self.outputs))

    @property
    def is_uneven(self) -> bool:
        """Return whether a filter's channels are more than 8 and no power of two."""
        return self.outputs > ALIGNED and self.outputs & (self.outputs - 1) > 0

    @property
    def is_depthwise(self) -> bool:
        """Return whether each filter sees one channel."""
        return self.groups > 1 and self.inputs == 1


def _convolution(
    op: OpRecord,
    size: _Size,
    operands: tuple[TensorSpec, TensorSpec, TensorSpec],
    sides: tuple[float, float, float],
) -> Work:
    """Return one of a convolution's products: the operands are two factors and the result."""
    first, second, result = operands
    images = sum(tensor.nbytes for tensor in operands if tensor is not size.weight)
    last = is_channels_last(op)
    return Work(
        kind=Kind.DEPTHWISE if size.is_depthwise else Kind.CONVOLUTION,
        dtype=first.dtype,
        flops=size.flops,
        elements=max(tensor.numel for tensor in operands),
        read_bytes=first.nbytes + second.nbytes,
        written_bytes=result.nbytes,
        rows=sides[0],
        columns=sides[1],
        inner=sides[2],
        batch=size.groups,
        window=size.window,
        padding=size.padding,
        copied_bytes=0.0 if last else 2.0 * images,
        is_convolution=True,
        is_channels_last=last,
        is_uneven_group=size.groups > 1 and size.is_uneven,
        is_unaligned=size.groups == 1 and size.is_unaligned,
    )


def is_channels_last(op: OpRecord) -> bool:
    """Return whether cuDNN is asked to work with the channels last.

    Source: PyTorch, ``aten/src/ATen/native/ConvUtils.h`` (``cudnn_conv_suggest_memory_format``).
    """
    return any(Layout.SUGGESTS_CHANNELS_LAST in layout for layout in op.layouts[:3])


def _groups(op: OpRecord, position: int) -> int:
    value = argument(op, position, "groups", 1)
    return value if isinstance(value, int) else 1
