"""Output shapes and layouts of convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from torchgauge.trace.shapes.layouts import channels_last
from torchgauge.trace.shapes.rule import META, Args, Gradients, Kwargs, Rule, made


def _convolution(args: Args, kwargs: Kwargs) -> Any:
    """A convolution answers in the layout in which the kernel works.

    PyTorch's meta kernel knows the shape; it forgets the layout of some (depthwise) convolutions.
    """
    source, weight = args[:2]
    if args[6] and source.dim() == weight.dim() and source.shape[1] != weight.shape[0]:
        raise RuntimeError(
            f"Given transposed=1, weight of size {list(weight.shape)}, expected input"
            f"{list(source.shape)} to have {weight.shape[0]} channels, but got {source.shape[1]} "
            "channels instead"
        )
    try:
        output = torch.ops.aten.convolution.default(*args, **kwargs)
    except RuntimeError:
        _check_that_the_kernel_fits(*args[:2], *args[3:8])
        raise
    if not output.numel():
        _check_that_the_kernel_fits(*args[:2], *args[3:8])
    layout = _convolution_layout(source, weight)
    return output if layout is None else output.contiguous(memory_format=layout)


def _check_that_the_kernel_fits(
    source: torch.Tensor,
    weight: torch.Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
) -> None:
    """Refuse an input too small for the kernel in PyTorch's words; its meta kernel of 2.6 does not.

    Source: ``check_shape_forward`` in ``aten/src/ATen/native/Convolution.cpp`` and
    ``slow_conv_transpose2d_shape_check`` in ``NaiveConvolutionTranspose2d.cpp`` (2.6–2.13).

    Raises:
        RuntimeError: the output would have no pixel.
    """
    count = source.dim() - 2
    stride, padding, dilation, output_padding = (
        tuple(given) * (count // len(given))
        for given in (stride, padding, dilation, output_padding)
    )
    sizes = source.shape[2:]
    kernel = [d * (size - 1) + 1 for d, size in zip(dilation, weight.shape[2:], strict=True)]
    if transposed:
        made = [
            (size - 1) * step - 2 * pad + width + more
            for size, step, pad, width, more in zip(
                sizes, stride, padding, kernel, output_padding, strict=True
            )
        ]
        if min(made, default=1) < 1:
            raise RuntimeError(
                f"Given input size per channel: {_by(sizes)}. Calculated output size per channel: "
                f"{_by(made)}. Output size is too small"
            )
        return
    padded = [size + 2 * pad for size, pad in zip(sizes, padding, strict=True)]
    if any(size < width for size, width in zip(padded, kernel, strict=True)):
        raise RuntimeError(
            f"Calculated padded input size per channel: {_by(padded)}. Kernel size: {_by(kernel)}. "
            "Kernel size can't be greater than actual input size"
        )


def _by(sizes: Sequence[int]) -> str:
    return f"({' x '.join(map(str, sizes))})"


def _convolution_backward(args: Args, kwargs: Kwargs) -> Gradients:
    """Gradients of input, weight and bias, as ``output_mask`` asks, in the layout of the forward.

    A weight whose gradient has another layout gets a copy of it; PyTorch's meta kernels follow
    other laws than the CPU, and others in 2.6 than in 2.13.
    """
    source, weight, mask = args[1], args[2], args[10]
    layout = _convolution_layout(source, weight) or torch.contiguous_format
    grads = [
        torch.empty(of.shape, dtype=of.dtype, device=META, memory_format=layout) if wanted else None
        for of, wanted in zip((source, weight), mask, strict=False)
    ]
    channels = args[0].shape[1]
    bias = made(channels, weight.dtype) if mask[2] else None
    return *grads, bias


def _convolution_layout(source: torch.Tensor, weight: torch.Tensor) -> torch.memory_format | None:
    """Return channels last when the input or the weight is: oneDNN works so, and answers so.

    Not for double precision in three dimensions, which oneDNN leaves to another kernel.
    """
    if source.dim() == 5 and source.dtype is torch.float64:
        return None
    return channels_last(source) or channels_last(weight)


CONVOLUTION_RULES: dict[str, Rule] = {
    "aten.convolution.default": _convolution,
    "aten.convolution_backward.default": _convolution_backward,
}
