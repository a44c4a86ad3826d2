"""Scratch memory of transposed float32 convolutions on the CPU.

Sources: ``mkldnn/Conv.cpp``, ``NaiveConvolutionTranspose2d.cpp`` and ``…3d.cpp`` in PyTorch's
``aten/src/ATen/native``; ideep's ``operators/deconv.hpp``; oneDNN 3.x
``src/cpu/x64/jit_brgemm_deconv.cpp`` (with strides) and ``src/cpu/ref_deconvolution.hpp``, which
run the convolution backwards. Weight: ``[I, O / groups, …]``.

Assumes AVX-512 and tensors that are not channels-last. Outputs whose size is no multiple of the
stride are estimates.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from torchgauge.estimate.workspaces.convolution_sizes import (
    ALIGNMENT,
    BLOCK,
    FLOAT,
    Convolution,
    handed_over,
    up,
)
from torchgauge.estimate.workspaces.cpu_weight_gradient import weight_gradient
from torchgauge.estimate.workspaces.target import Target
from torchgauge.report.model import TensorSpec


def deconvolution(case: Convolution, output: TensorSpec, target: Target) -> tuple[int, ...]:
    """Operands in oneDNN's layouts and an image's copy; then its result beside PyTorch's."""
    if case.is_channels_last:
        return ()
    backwards = _backwards(case, output)
    if case.is_strided and not backwards.is_depthwise:
        inside = case.source.nbytes + _padded_weight(case) + output.nbytes
        inside += _strided_scratch(case, output, target)
        return (max(inside - output.nbytes, handed_over(output) * output.nbytes),)
    result = backwards.images(output.shape, BLOCK)
    inside = backwards.images(backwards.result, BLOCK) + result + backwards.weights(BLOCK)
    inside += result + ALIGNMENT if case.has_bias else 0
    return (max(inside - output.nbytes, result),)


def deconvolution_backward(
    case: Convolution, gradient: TensorSpec, target: Target
) -> tuple[int, ...]:
    """Return the scratch bytes of both gradients: the input's, then the weight's beside it."""
    if case.is_channels_last:
        return ()
    backwards = _backwards(case, gradient)
    image, weight = case.source.nbytes, case.weight.nbytes
    bias = gradient.shape[1] * FLOAT if case.has_bias else 0
    blocked = backwards.images(backwards.result, BLOCK)
    source = 0 if backwards.is_first else backwards.images(backwards.source.shape, BLOCK)
    padded = backwards.weights(BLOCK, inputs=1 if backwards.is_first else None)
    found = weight_gradient(backwards, bias=False)
    moments = (
        source + padded + blocked + backwards.strided_source(),
        blocked + image,
        image + found.operands + found.weight + bias,
        image + found.weight + weight + 2 * bias,
    )  # fmt: skip
    return (max(0, max(moments) - image - weight - bias),)


def _backwards(case: Convolution, output: TensorSpec) -> Convolution:
    """Return the convolution that leads from the output to the input."""
    return replace(
        case,
        source=output,
        result=case.source.shape,
        source_layout=case.weight_layout,
        has_bias=False,
    )


def _padded_weight(case: Convolution) -> int:
    """Return the bytes of a weight whose outputs alone fill their blocks."""
    if case.groups > 1:
        return case.weight.nbytes
    inputs, outputs = case.weight.shape[:2]
    return inputs * up(outputs, BLOCK) * prod(case.kernel) * FLOAT


def _strided_scratch(case: Convolution, output: TensorSpec, target: Target) -> int:
    """Return what ``brgconv_strided`` takes; where it does not fit, the bias is added apart."""
    small, large = case.source.shape[2:], output.shape[2:]
    scratch = ALIGNMENT + case.strided_scratch(
        case.weight.shape[0], small, large, target.caches.second
    )
    fits = all(size % step == 0 for size, step in zip(large, case.stride, strict=True))
    return scratch if fits or not case.has_bias else scratch + output.nbytes + ALIGNMENT
