"""Scratch memory of float32 convolutions on the CPU: oneDNN's own layouts of all operands.

Sources: ``mkldnn/Conv.cpp`` in PyTorch's ``aten/src/ATen/native`` and ideep's
``operators/conv.hpp`` (what is reordered, and when it is freed); the layouts are those of the
kernel that oneDNN chooses (``onednn/kernels.py``).

Assumes: an x86 processor with AVX-512, and one thread.
"""

from __future__ import annotations

from torchgauge.estimate.arguments import mask, tensor
from torchgauge.estimate.memory.workspaces.cpu import channels_last as cpu_channels_last
from torchgauge.estimate.memory.workspaces.cpu.deconvolution import (
    deconvolution,
    deconvolution_backward,
)
from torchgauge.estimate.memory.workspaces.cpu.own_convolution import own_gradients, own_output
from torchgauge.estimate.memory.workspaces.cpu.weight_gradient import weight_gradient
from torchgauge.estimate.memory.workspaces.onednn import kernels, unfolded_images
from torchgauge.estimate.memory.workspaces.onednn.convolution_sizes import (
    Convolution,
    handed_over,
    is_one_order,
    read,
)
from torchgauge.estimate.memory.workspaces.operands import FLOAT
from torchgauge.estimate.memory.workspaces.platform import Platform, Rules
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec


def _copy(spec: TensorSpec, layout: Layout, *, channels_last: bool) -> int:
    """Return the bytes of a copy in the wanted layout, 0 where none is made."""
    wanted = Layout.CHANNELS_LAST if channels_last else Layout.CONTIGUOUS
    return 0 if wanted in layout else spec.nbytes


def _forward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Operands in oneDNN's layouts; then, without channels-last, its result and PyTorch's.

    ``convolution(source [N, C, …], weight, bias, stride, padding, dilation, …, groups)``.
    """
    output = op.outputs[0]
    case = read(op, platform, 0, output.shape)
    if case is None:
        return ()
    if not case.takes_onednn:
        return (own_output(case, output),)
    last = case.is_channels_last
    copy = _copy(case.source, case.source_layout, channels_last=last)
    if case.is_transposed:
        return copy, *deconvolution(case, output, platform)
    if last:
        return copy, case.copied_weight, cpu_channels_last.output_taken(case, platform).total
    kernel = kernels.forward_kernel(case, platform.caches)
    if kernel.unfolds:
        return (copy, max(unfolded_images.forward_scratch(case, platform.caches), output.nbytes))
    if kernel.is_last:
        return (copy, max(case.source.nbytes + case.weights(kernel.block), 2 * output.nbytes))
    bias = case.padded_bias(kernel.block) if case.has_bias else 0
    result = case.images(output.shape, kernel.block)
    operands = kernel.source(case) + kernel.weight(case) + case.strided_source()
    return (copy, max(operands + bias + result - output.nbytes, result))


def _backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The input's gradient, then the weight's: the worse of the moments of both.

    ``convolution_backward(gradient [N, C, …], source, weight, bias sizes, stride, …, mask)``.
    """
    gradient, wanted = tensor(op, 0), mask(op, 10)
    case = read(op, platform, 1, gradient.shape)
    if case is None:
        return ()
    if not case.takes_onednn:
        kept = sum(spec.nbytes for spec in op.outputs)
        return (own_gradients(case, gradient, op.layouts[0], wanted, kept),)
    last = case.is_channels_last
    copies = _copy(gradient, op.layouts[0], channels_last=last)
    copies += _copy(case.source, case.source_layout, channels_last=last)
    if case.is_transposed:
        return copies, *deconvolution_backward(case, gradient, wanted, platform)
    if last:
        copies += case.copied_weight
    image = case.source.nbytes if wanted[0] else 0
    moments = _input_gradient(case, gradient, platform) if wanted[0] else []
    if wanted[1] or wanted[2]:
        moments += [image + moment for moment in _weight_gradient(case, bool(wanted[2]))]
    bias = case.outputs * FLOAT if wanted[2] else 0
    kept = image + (case.weight.nbytes if wanted[1] else 0) + bias
    return copies, max(0, max(moments, default=0) - kept)


def _input_gradient(case: Convolution, gradient: TensorSpec, platform: Platform) -> list[int]:
    """Return the bytes alive in the kernel, and while its result is copied to PyTorch's."""
    image = case.source.nbytes
    if case.is_channels_last:
        return [image + cpu_channels_last.input_taken(case, platform).total]
    if kernels.takes_strided(case):
        copied = 0 if is_one_order(gradient.shape) else gradient.nbytes
        weight = cpu_channels_last.strided_weight(case)
        inside = copied + weight + image + case.strided_scratch(platform.caches.second)
        return [inside, image + handed_over(case.source) * image]
    kernel = kernels.input_kernel(case, platform.caches)
    if kernel.unfolds:
        return [image + unfolded_images.input_scratch(case), 2 * image]
    operands = case.images(case.result, kernel.block) + kernel.weight(case)
    return [operands + kernel.source(case), kernel.source(case) + image]


def _weight_gradient(case: Convolution, bias: bool) -> list[int]:
    """Return the bytes alive in the kernel, and while its result is copied to PyTorch's."""
    own, one_bias = case.weight.nbytes, case.outputs * FLOAT if bias else 0
    if case.is_channels_last:
        taken = cpu_channels_last.weight_taken(case, bias=bias)
        return [taken.total + one_bias, taken.weight + 2 * one_bias + 2 * own]
    inside, weight = weight_gradient(case, bias=bias)
    return [inside + weight + one_bias, weight + own + 2 * one_bias]


RULES: Rules = {
    "aten.convolution.default": _forward,
    "aten.convolution_backward.default": _backward,
}
