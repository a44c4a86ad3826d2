"""Scratch memory of transposed float32 convolutions on the CPU.

Sources: ``mkldnn/Conv.cpp`` in PyTorch's ``aten/src/ATen/native``; ideep's
``operators/deconv.hpp``; oneDNN 3.x ``src/cpu/x64/jit_brgemm_deconv.cpp`` and
``src/cpu/ref_deconvolution.hpp``, which run the convolution backwards.
Weight: ``[I, O / groups, …]``.

Assumes: one group, no channels-last, AVX-512.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.workspaces.convolution_sizes import (
    ALIGNMENT,
    BLOCK,
    FLOAT,
    Convolution,
    up,
)
from torchgauge.report.model import TensorSpec


def deconvolution(case: Convolution, output: TensorSpec) -> tuple[int, ...]:
    """Operands in oneDNN's layouts and an image's copy; then its result beside PyTorch's."""
    if case.groups > 1 or case.is_channels_last:
        return ()
    scratch = 0
    if any(step > 1 for step in case.stride):
        channels = case.weight.shape[0]
        small, large = case.source.shape[2:], output.shape[2:]
        scratch = ALIGNMENT + case.strided_scratch(channels, small, large)
    inside = case.source.nbytes + _blocked_weight(case) + scratch
    return (max(inside, output.nbytes),)


def deconvolution_backward(case: Convolution, gradient: TensorSpec) -> tuple[int, ...]:
    """The worst moment of both gradients; images of few channels stay plain."""
    if case.groups > 1 or case.is_channels_last:
        return ()
    weight = case.weight.nbytes
    inputs, outputs = case.weight.shape[:2]
    is_first = outputs < BLOCK
    blocked = up(inputs, BLOCK) * prod((case.source.shape[0], *case.source.shape[2:])) * FLOAT
    large = 0 if is_first else case.image(gradient.shape, outputs)
    image, own_bias = case.source.nbytes, outputs * FLOAT
    moments = (
        large + _blocked_weight(case) + blocked,
        blocked + image,
        image + blocked + large + weight + own_bias,
        image + 2 * weight + 2 * own_bias,
    )
    return (max(0, max(moments) - image - weight - own_bias),)


def _blocked_weight(case: Convolution) -> int:
    inputs, outputs = case.weight.shape[:2]
    return up(inputs, BLOCK) * up(outputs, BLOCK) * prod(case.kernel) * FLOAT
