"""What oneDNN takes for the gradient of a convolution's weight, without channels-last.

Source: ``jit_avx512_common_1x1_convolution`` in oneDNN 3.12's ``src/cpu/x64``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torchgauge.estimate.memory.workspaces.onednn.convolution_sizes import Convolution
from torchgauge.estimate.memory.workspaces.onednn.kernels import weight_kernel
from torchgauge.estimate.memory.workspaces.onednn.unfolded_images import weight_scratch

_CHANNELS_TOGETHER = 128
"""Input channels that ``jit_1x1`` handles together: eight blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightGradient:
    """Bytes of one weight gradient."""

    operands: int
    """Copies of input, output's gradient and scratch memory, gone with the kernel."""
    weight: int
    """The gradient in oneDNN's layout."""
    has_scratch: bool = False
    """Whether the kernel takes scratch memory besides copies."""
    padded_bias: int = 0
    """The bias' gradient where the channels do not fill their blocks."""


def weight_gradient(case: Convolution, *, bias: bool) -> WeightGradient:
    """Return what the gradient of the weight takes."""
    kernel = weight_kernel(case)
    if kernel.unfolds:
        return WeightGradient(
            operands=weight_scratch(case), weight=case.weight.nbytes, has_scratch=True
        )
    source = 0 if kernel.keeps_source else case.images(case.source.shape, kernel.block)
    pixels = case.strided_source(_CHANNELS_TOGETHER)
    return WeightGradient(
        operands=case.images(case.result, kernel.block) + source + pixels,
        weight=case.weights(kernel.block, inputs=1 if kernel.keeps_source else None),
        has_scratch=pixels > 0,
        padded_bias=case.padded_bias(kernel.block) if bias and not case.is_depthwise else 0,
    )  # fmt: skip
