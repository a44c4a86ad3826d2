"""What oneDNN takes for the gradient of a convolution's weight, without channels-last.

Source: ``jit_avx512_common_1x1_convolution`` in oneDNN 3.12's ``src/cpu/x64``.
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.onednn.convolution_sizes import ALIGNMENT, Convolution
from torchgauge.estimate.memory.workspaces.onednn.kernels import weight_kernel
from torchgauge.estimate.memory.workspaces.onednn.unfolded_images import weight_scratch

_CHANNELS_TOGETHER = 128
"""Input channels that ``jit_1x1`` handles together: eight blocks."""


def weight_gradient(case: Convolution, *, bias: bool, nested: bool = False) -> tuple[int, int]:
    """Return the bytes that are gone with the kernel, and those of the gradient in its layout.

    The first are copies of the operands, scratch memory, which a kernel that this one is ``nested``
    in aligns once more, and the bias' gradient where the channels do not fill their blocks.
    """
    kernel = weight_kernel(case)
    again = ALIGNMENT if nested else 0
    if kernel.unfolds:
        return weight_scratch(case) + again, case.weight.nbytes
    pixels = case.strided_source(_CHANNELS_TOGETHER)
    inside = case.images(case.result, kernel.block) + kernel.source(case)
    inside += pixels + again if pixels else 0
    inside += case.padded_bias(kernel.block) if bias and not case.is_depthwise else 0
    return inside, kernel.weight(case)
