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
    is_one_order,
    read,
    up,
)
from torchgauge.estimate.workspaces.cpu_deconvolution import deconvolution, deconvolution_backward
from torchgauge.estimate.workspaces.cpu_weight_gradient import weight_gradient
from torchgauge.estimate.workspaces.onednn_kernels import (
    forward_kernel,
    input_kernel,
    takes_strided,
)
from torchgauge.estimate.workspaces.target import Rule, Target
from torchgauge.estimate.workspaces.unfolded_images import forward_scratch, input_scratch
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
        return deconvolution(case, output, target)
    last = case.is_channels_last
    copy = _copy(case.source, case.source_layout, channels_last=last)
    if not case.takes_onednn:
        if case.groups > 1 and len(case.kernel) < 3:
            return (max(output.nbytes, _group_copies(case)),)
        return (copy, _unfolded(case))
    if last:
        return copy, case.copied_weight, *_forward_channels_last(case)
    kernel = forward_kernel(case, target.caches)
    if kernel.unfolds:
        return (copy, max(forward_scratch(case, target.caches), output.nbytes))
    if kernel.is_last:
        return (copy, max(case.source.nbytes + case.weights(kernel.block), 2 * output.nbytes))
    source = 0 if kernel.keeps_source else case.images(case.source.shape, kernel.block)
    weight = case.weights(kernel.block, inputs=1 if kernel.keeps_source else None)
    bias = case.padded_bias(kernel.block) if case.has_bias else 0
    result = case.images(output.shape, kernel.block)
    inside = source + weight + case.strided_source() + bias + result - output.nbytes
    return (copy, max(inside, result))


def _forward_channels_last(case: Convolution) -> tuple[int, ...]:
    if case.is_depthwise:
        return (case.weights(BLOCK),)
    block = _BRGEMM_BLOCK if case.outputs > BLOCK else BLOCK
    weight = up(case.outputs, block) * case.inputs * prod(case.kernel) * FLOAT
    return weight, 0 if case.is_pointwise else _BRGEMM_DESCRIPTORS


def _unfolded(case: Convolution) -> int:
    """Return the bytes of all images unfolded; a 1 × 1 kernel on every pixel needs none.

    Those for a kernel with gaps are unfolded one at a time (``NaiveDilatedConvolution.cpp``).
    """
    if case.is_dilated:
        return case.columns
    if case.is_pointwise and not case.is_strided and not any(case.padding) and case.groups == 1:
        return 0
    return case.source.shape[0] * case.columns


def _group_copies(case: Convolution, *images: TensorSpec) -> int:
    """Return the bytes of the contiguous copies of a group: of one image it lies together."""
    if case.source.shape[0] == 1:
        return 0
    return sum(image.nbytes for image in (case.source, *images)) // case.groups


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
        return deconvolution_backward(case, gradient, target)
    last = case.is_channels_last
    copies = _copy(gradient, op.layouts[0], channels_last=last)
    copies += _copy(case.source, case.source_layout, channels_last=last)
    if not case.takes_onednn:
        kept = sum(spec.nbytes for spec in op.outputs)
        if case.groups > 1 and len(case.kernel) < 3:  # each group's gradients, then all together
            return (max(kept, _group_copies(case, gradient)),)
        unfolded = _unfolded(case)
        if case.is_dilated and mask[2]:
            unfolded += case.outputs * case.itemsize
        if unfolded or len(case.kernel) < 3 or not mask[0]:
            return copies, unfolded
        return copies, max(0, 2 * case.source.nbytes - kept)  # a volume's gradient is made twice
    if last:
        copies += case.copied_weight
    image = case.source.nbytes if mask[0] else 0
    moments = []
    if mask[0]:
        moments += _input_gradient(case, gradient, target)
    if mask[1] or mask[2]:
        held = [image + moment for moment in _weight_gradient(case, gradient, bool(mask[2]))]
        moments += held
    bias = case.outputs * FLOAT if mask[2] else 0
    kept = image + (case.weight.nbytes if mask[1] else 0) + bias
    return copies, max(0, max(moments, default=0) - kept)


def _input_gradient(case: Convolution, gradient: TensorSpec, target: Target) -> list[int]:
    """Return the bytes alive in the kernel, and while its result is copied to PyTorch's."""
    image = case.source.nbytes
    if case.is_channels_last:
        if case.is_depthwise:
            return [image + case.weights(BLOCK)]
        weight = case.outputs * up(case.inputs, _BRGEMM_BLOCK) * prod(case.kernel) * FLOAT
        return [image + weight + _strided_scratch(case, target)]
    if takes_strided(case):
        weight = case.outputs * up(case.inputs, BLOCK) * prod(case.kernel) * FLOAT
        copied = 0 if is_one_order(gradient.shape) else gradient.nbytes
        inside = copied + weight + image + _strided_scratch(case, target)
        return [inside, image + handed_over(case.source) * image]
    kernel = input_kernel(case, target.caches)
    if kernel.unfolds:
        return [image + input_scratch(case), 2 * image]
    source = case.images(case.source.shape, kernel.block)
    operands = case.images(case.result, kernel.block) + case.weights(kernel.block)
    return [operands + source, source + image]


def _strided_scratch(case: Convolution, target: Target) -> int:
    """Return what the input's gradient takes where ``brgconv_strided`` computes it."""
    if not takes_strided(case):
        return 0
    small, large = case.result[2:], case.source.shape[2:]
    return case.strided_scratch(case.outputs, small, large, target.caches.second)


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
