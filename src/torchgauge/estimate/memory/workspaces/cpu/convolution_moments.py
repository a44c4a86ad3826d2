"""Bytes alive at the worst moments of oneDNN's float32 convolutions: in the kernel, and after it.

oneDNN wants operands in its own layouts, and without channels-last hands its result over in one,
which is then copied to PyTorch's. A transposed convolution runs one of these backwards; its kernel
is ``nested`` in another, which aligns scratch memory once more.

Sources: ``mkldnn/Conv.cpp`` in PyTorch's ``aten/src/ATen/native``; ideep's ``operators/conv.hpp``
and ``operators/deconv.hpp`` (what is reordered, and when it is freed); oneDNN 3.12
``src/cpu/x64/jit_brgemm_deconv.cpp`` (with strides), ``src/cpu/ref_deconvolution.hpp`` and
``jit_avx512_common_1x1_convolution`` (a weight's gradient). The layouts are those of
the kernel that oneDNN chooses (``onednn/kernels.py``).

Assumes: an x86 processor with AVX-512, and one thread.
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.cpu import channels_last
from torchgauge.estimate.memory.workspaces.onednn import kernels, unfolded_images
from torchgauge.estimate.memory.workspaces.onednn.convolution_sizes import (
    ALIGNMENT,
    Convolution,
    aligned,
    is_one_order,
)
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import TensorSpec

_CHANNELS_TOGETHER = 128
"""Input channels that ``jit_1x1`` handles together for a weight's gradient: eight blocks."""


def output_moments(
    case: Convolution, output: int, platform: Platform, *, nested: bool = False
) -> list[int]:
    """Return the moments of the output, which has so many bytes in PyTorch's layout."""
    if case.is_channels_last:
        return [output + channels_last.output_taken(case, platform).total(nested=nested)]
    kernel = kernels.forward_kernel(case, platform.caches)
    if kernel.unfolds:
        scratch = unfolded_images.forward_scratch(case, platform.caches)
        return [output + aligned(scratch, nested), 2 * output]
    if kernel.is_last:
        return [case.source.nbytes + case.weights(kernel.block) + output, 3 * output]
    bias = case.padded_bias(kernel.block) if case.has_bias else 0
    result = case.images(case.result, kernel.block)
    operands = kernel.source(case) + kernel.weight(case) + aligned(case.strided_source(), nested)
    return [operands + bias + result, result + output]


def input_moments(
    case: Convolution,
    gradient: TensorSpec,
    platform: Platform,
    *,
    nested: bool = False,
    adds_bias: bool = False,
) -> list[int]:
    """Return the moments of the input's gradient; a bias is added to a copy of it."""
    image = case.source.nbytes
    if case.is_channels_last:
        return [image + channels_last.input_taken(case, platform).total()]
    bias = image + ALIGNMENT if adds_bias else 0
    if kernels.takes_strided(case):
        copied = 0 if is_one_order(gradient.shape) else gradient.nbytes
        scratch = aligned(case.strided_scratch(platform.caches.second), nested)
        scratch += 0 if case.strides_divide_source else bias
        inside = copied + channels_last.strided_weight(case) + image + scratch
        # Its channels are last: it is written out in PyTorch's order, and then copied.
        return [inside, (2 if is_one_order(case.source.shape) else 3) * image]
    kernel = kernels.input_kernel(case, platform.caches)
    if kernel.unfolds:
        scratch = unfolded_images.input_scratch(case) + bias
        return [image + aligned(scratch, nested), 2 * image]
    made = kernel.source(case)
    operands = case.images(case.result, kernel.block) + kernel.weight(case)
    return [operands + made + (made + ALIGNMENT if adds_bias else 0), made + image]


def weight_moments(case: Convolution, bias: int, *, nested: bool = False) -> list[int]:
    """Return the moments of the weight's gradient, with so many bytes of the bias'.

    In the kernel there are copies of the operands, scratch memory, and the bias' gradient where
    the channels do not fill their blocks; another kernel sums the bias' if this one is nested.
    """
    own, sums_bias = case.weight.nbytes, bool(bias) and not nested
    if case.is_channels_last:
        taken = channels_last.weight_taken(case, bias=sums_bias)
        return [taken.total(nested=nested) + bias, taken.weight + 2 * bias + 2 * own]
    kernel = kernels.weight_kernel(case)
    if kernel.unfolds:
        weight, inside = own, aligned(unfolded_images.weight_scratch(case), nested)
    else:
        weight, pixels = kernel.weight(case), case.strided_source(_CHANNELS_TOGETHER)
        inside = case.images(case.result, kernel.block) + kernel.source(case)
        inside += aligned(pixels, nested)
        if sums_bias and not case.is_depthwise:
            inside += case.padded_bias(kernel.block)
    return [inside + weight + bias, weight + own + 2 * bias]
