"""Scratch memory of float32 convolutions on the CPU: oneDNN's own layouts of all operands.

Sources: ``mkldnn/Conv.cpp`` in PyTorch's ``aten/src/ATen/native`` and ideep's
``operators/conv.hpp`` (what is reordered, and when it is freed); oneDNN 3.x ``src/cpu/x64``
(layouts: ``jit_avx512_core_f32`` in blocks of 16 channels, ``jit_dw``, ``brgconv`` for
channels-last) and ``src/cpu/gemm_convolution_utils.cpp``, which takes plain tensors.

Assumes: an x86 processor with AVX-512. Not counted: partial sums of weight gradients per thread,
and transposed rows of narrow inputs (up to 50 kB). Where the forward unfolds images by blocks that
depend on the cache, a whole image is counted.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.workspaces.convolution_sizes import (
    ALIGNMENT,
    BLOCK,
    FLOAT,
    Convolution,
    handed_over,
    read,
    up,
)
from torchgauge.estimate.workspaces.cpu_deconvolution import deconvolution, deconvolution_backward
from torchgauge.estimate.workspaces.cpu_weight_gradient import weight_gradient
from torchgauge.estimate.workspaces.target import Rule, Target
from torchgauge.report.model import Layout, OpRecord, TensorSpec

_BRGEMM_BLOCK = 32
_BRGEMM_DESCRIPTORS = 8216
"""Bytes of ``brgconv``'s batch descriptors in a forward: measured, oneDNN 3.12."""


def _copy(spec: TensorSpec, layout: Layout, *, channels_last: bool) -> int:
    """Return the bytes of a copy in the wanted layout, 0 where none is made."""
    wanted = Layout.CHANNELS_LAST if channels_last else Layout.CONTIGUOUS
    return 0 if wanted in layout else spec.nbytes


def _forward(op: OpRecord, target: Target) -> tuple[int, ...]:
    """Operands in oneDNN's layouts; then, without channels-last, its result beside PyTorch's.

    ``convolution(source [N, C, …], weight, bias, stride, padding, dilation, …, groups)``.
    """
    output = op.outputs[0]
    case = read(op, target, 0, output.shape)
    if case is None:
        return ()
    if case.is_transposed:
        return deconvolution(case, output)
    last = case.is_channels_last
    copy = _copy(case.source, case.source_layout, channels_last=last)
    if not case.takes_onednn:
        return (copy, _unfolded(case))
    if last:
        return copy, case.copied_weight, *_forward_channels_last(case)
    if case.takes_gemm:
        return (copy, max(case.columns, output.nbytes))
    inside = (
        case.blocked_source + case.blocked_weight + case.strided_source() + case.padded_bias
        + case.blocked_result - output.nbytes
    )  # fmt: skip
    return (copy, max(inside, case.blocked_result))


def _forward_channels_last(case: Convolution) -> tuple[int, ...]:
    if case.is_depthwise:
        return (case.blocked_weight,)
    block = _BRGEMM_BLOCK if case.outputs > BLOCK else BLOCK
    weight = up(case.outputs, block) * case.inputs * prod(case.kernel) * FLOAT
    return weight, 0 if case.is_pointwise else _BRGEMM_DESCRIPTORS


def _unfolded(case: Convolution) -> int:
    """Return the bytes of all images unfolded; a 1 × 1 kernel on every pixel needs none."""
    steps = any(size != 1 for size in case.stride) or any(case.padding)
    if case.is_pointwise and not steps:
        return 0
    return case.source.shape[0] * case.columns


def _backward(op: OpRecord, target: Target) -> tuple[int, ...]:
    """The input's gradient, then the weight's: the worse of the moments of both.

    ``convolution_backward(gradient [N, C, …], source, weight, bias sizes, stride, …, mask)``.
    """
    gradient = op.args[0]
    assert isinstance(gradient, TensorSpec)
    case = read(op, target, 1, gradient.shape)
    mask = op.args[10]
    if case is None or not isinstance(mask, tuple):
        return ()
    if case.is_transposed:
        return deconvolution_backward(case, gradient)
    last = case.is_channels_last
    copies = _copy(gradient, op.layouts[0], channels_last=last)
    copies += _copy(case.source, case.source_layout, channels_last=last)
    if not case.takes_onednn:
        unfolded = _unfolded(case)
        if unfolded or len(case.kernel) < 3 or not mask[0]:
            return copies, unfolded
        kept = sum(spec.nbytes for spec in op.outputs)  # a volume's gradient is made twice
        return copies, max(0, 2 * case.source.nbytes - kept)
    if last:
        copies += case.copied_weight
    image = case.source.nbytes if mask[0] else 0
    moments = []
    if mask[0]:
        moments += _input_gradient(case, gradient)
    if mask[1] or mask[2]:
        held = [image + moment for moment in _weight_gradient(case, gradient, bool(mask[2]))]
        moments += held
    bias = case.outputs * FLOAT if mask[2] else 0
    kept = image + (case.weight.nbytes if mask[1] else 0) + bias
    return copies, max(0, max(moments, default=0) - kept)


def _input_gradient(case: Convolution, gradient: TensorSpec) -> list[int]:
    """Return the bytes alive in the kernel, and while its result is copied to PyTorch's."""
    image = case.source.nbytes
    if case.is_channels_last:
        if case.is_depthwise:
            return [image + case.blocked_weight]
        weight = case.outputs * up(case.inputs, _BRGEMM_BLOCK) * prod(case.kernel) * FLOAT
        return [image + weight + _strided_scratch(case)]
    dilated = case.is_depthwise and any(size != 1 for size in case.dilation)
    if case.takes_gemm or dilated:
        return [image + case.columns + ALIGNMENT, 2 * image]
    source = case.image(case.source.shape, case.inputs)
    if case.groups == 1 and case.is_strided:
        weight = case.outputs * up(case.inputs, BLOCK) * prod(case.kernel) * FLOAT
        inside = gradient.nbytes + weight + image + _strided_scratch(case)
        return [inside, image + handed_over(case.source) * image]
    weight = case.blocked_weight
    if case.is_first:
        weight = up(case.outputs, BLOCK) * up(case.inputs, BLOCK) * prod(case.kernel) * FLOAT
    return [case.blocked_result + weight + source, source + image]


def _strided_scratch(case: Convolution) -> int:
    """Return what the input's gradient takes where ``brgconv_strided`` computes it."""
    if case.groups > 1 or not case.is_strided:
        return 0
    return case.strided_scratch(case.outputs, case.result[2:], case.source.shape[2:])


def _weight_gradient(case: Convolution, gradient: TensorSpec, bias: bool) -> list[int]:
    """Return the bytes alive in the kernel, and while its result is copied to PyTorch's."""
    own, one_bias = case.weight.nbytes, case.outputs * FLOAT if bias else 0
    padded = up(case.outputs, BLOCK) * FLOAT + ALIGNMENT
    padded = padded if bias and case.outputs % BLOCK else 0
    if case.is_channels_last:
        weight = own
        if case.is_depthwise:
            weight = case.groups * BLOCK * BLOCK * prod(case.kernel) * FLOAT
        elif case.groups == 1:
            weight = up(case.outputs, BLOCK) * up(case.inputs, BLOCK) * prod(case.kernel)
            weight *= FLOAT
        return [weight + one_bias + padded, weight + 2 * one_bias + 2 * own]
    found = weight_gradient(case, bias=bias)
    inside = found.operands + found.weight + one_bias + found.padded_bias
    return [inside, found.weight + own + 2 * one_bias]


RULES: dict[str, Rule] = {
    "aten.convolution.default": _forward,
    "aten.convolution_backward.default": _backward,
}
"""By operator, overload included."""
