"""Scratch memory of transposed float32 convolutions on the CPU: oneDNN runs one backwards.

Sources: ``mkldnn/Conv.cpp`` in PyTorch's ``aten/src/ATen/native``; ideep's
``operators/deconv.hpp``; oneDNN 3.12 ``src/cpu/x64/jit_brgemm_deconv.cpp`` (with strides) and
``src/cpu/ref_deconvolution.hpp``. Weight: ``[I, O / groups, …]``.

Assumes AVX-512 and one thread.
"""

from __future__ import annotations

from dataclasses import replace

from torchgauge.estimate.memory.workspaces.cpu import channels_last as cpu_channels_last
from torchgauge.estimate.memory.workspaces.cpu.weight_gradient import weight_gradient
from torchgauge.estimate.memory.workspaces.onednn import kernels, unfolded_images
from torchgauge.estimate.memory.workspaces.onednn.convolution_sizes import (
    ALIGNMENT,
    Convolution,
    handed_over,
    is_one_order,
)
from torchgauge.estimate.memory.workspaces.operands import FLOAT
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import TensorSpec


def deconvolution(case: Convolution, output: TensorSpec, platform: Platform) -> tuple[int, ...]:
    """Operands in oneDNN's layouts and an image's copy; then its result and PyTorch's."""
    backwards = _backwards(case, output)
    bias = output.nbytes + ALIGNMENT if case.has_bias else 0  # added to a copy
    if case.is_channels_last:
        taken = cpu_channels_last.transposed_taken(case, backwards, platform)
        fits = _is_even(backwards) and kernels.takes_strided(backwards)
        apart = case.is_depthwise or (case.is_strided and not fits)
        return case.copied_weight, taken.nested + (bias if apart else 0)
    if kernels.takes_strided(backwards):
        copied = 0 if is_one_order(case.source.shape) else case.source.nbytes
        inside = copied + cpu_channels_last.strided_weight(backwards) + ALIGNMENT
        inside += backwards.strided_scratch(platform.caches.second)
        inside += 0 if _is_even(backwards) else bias
        return (max(inside, handed_over(output) * output.nbytes),)
    kernel = kernels.input_kernel(backwards, platform.caches)
    if kernel.unfolds:
        scratch = unfolded_images.input_scratch(backwards) + bias
        return (max(scratch + ALIGNMENT if scratch else 0, output.nbytes),)
    result = backwards.images(output.shape, kernel.block)
    inside = backwards.images(backwards.result, kernel.block) + kernel.weight(backwards)
    inside += result + ALIGNMENT if case.has_bias else 0
    return (max(inside + result - output.nbytes, result),)


def deconvolution_backward(
    case: Convolution, gradient: TensorSpec, mask: tuple[bool, ...], platform: Platform
) -> tuple[int, ...]:
    """Return the scratch bytes of both gradients: the input's, then the weight's in addition."""
    backwards = _backwards(case, gradient)
    image = case.source.nbytes if mask[0] else 0
    own = case.weight.nbytes if mask[1] else 0
    bias = gradient.shape[1] * FLOAT if mask[2] else 0
    moments = [0]
    if case.is_channels_last:
        if mask[0]:
            moments.append(image + cpu_channels_last.output_taken(backwards, platform).nested)
        if mask[1]:
            taken = cpu_channels_last.weight_taken(backwards, bias=False)
            moments += [image + taken.nested + bias, image + taken.weight + 2 * bias + 2 * own]
        return case.copied_weight, max(0, max(moments) - image - own - bias)
    if mask[0]:
        moments += _input_gradient(backwards, image, platform)
    if mask[1]:
        inside, weight = weight_gradient(backwards, bias=False, nested=True)
        moments += [image + inside + weight + bias, image + weight + own + 2 * bias]
    return (max(0, max(moments) - image - own - bias),)


def _input_gradient(backwards: Convolution, image: int, platform: Platform) -> list[int]:
    """Return the bytes alive in the kernel, and while its result is copied to PyTorch's."""
    kernel = kernels.forward_kernel(backwards, platform.caches)
    if kernel.unfolds:
        scratch = unfolded_images.forward_scratch(backwards, platform.caches)
        return [image + scratch + (ALIGNMENT if scratch else 0), 2 * image]
    if kernel.is_last:
        return [backwards.source.nbytes + backwards.weights(kernel.block) + image, 3 * image]
    result = backwards.images(backwards.result, kernel.block)
    pixels = backwards.strided_source()
    pixels += ALIGNMENT if pixels else 0
    operands = kernel.source(backwards) + kernel.weight(backwards)
    return [operands + result + pixels, result + image]


def _is_even(backwards: Convolution) -> bool:
    """Return whether the stride divides the output: the kernel then adds the bias itself."""
    return all(axis.source % axis.stride == 0 for axis in backwards.axes)


def _backwards(case: Convolution, output: TensorSpec) -> Convolution:
    """Return the convolution that leads from the output to the input."""
    return replace(
        case,
        source=output,
        result=case.source.shape,
        source_layout=case.weight_layout,
        has_bias=False,
        is_transposed=False,
    )
