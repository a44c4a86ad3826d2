"""What oneDNN takes for the gradient of a convolution's weight, without channels-last.

Sources: oneDNN 3.x ``src/cpu/x64/jit_avx512_common_conv_kernel.cpp`` (which blocks it takes for few
channels), ``jit_uni_x8s8s32x_1x1``'s float counterpart, ``src/cpu/gemm_convolution_utils.cpp``;
the blocks of eight were measured with oneDNN 3.12.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torchgauge.estimate.workspaces.convolution_sizes import (
    ALIGNMENT,
    BLOCK,
    FLOAT,
    HALF_BLOCK,
    Convolution,
    up,
)

_FEWEST_BLOCKED = 4
"""Input channels from which on a kernel of several elements takes blocks, mostly of padding."""
_CHANNELS_TOGETHER = 128
"""Input channels that ``jit_1x1`` handles together: eight blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightGradient:
    """Bytes of one weight gradient."""

    operands: int
    """Copies of input, output's gradient and scratch memory, gone with the kernel."""
    weight: int
    """The gradient in oneDNN's layout."""
    padded_bias: int = 0
    """The bias' gradient where the channels do not fill their blocks."""


def weight_gradient(case: Convolution, *, bias: bool) -> WeightGradient:
    """Return what the gradient of the weight takes."""
    volume = len(case.kernel) == 3
    few = _FEWEST_BLOCKED <= case.inputs < BLOCK and not case.takes_jit_1x1
    padded_volume = volume and case.groups == 1 and few and any(case.padding)
    if case.takes_gemm_for_weights or padded_volume:
        own = case.weight.nbytes  # its sums are booked as floats of floats: four times their bytes
        columns = case.columns // (case.result[2] if volume else 1)
        return WeightGradient(operands=FLOAT * own + columns + 2 * ALIGNMENT, weight=own)
    if case.groups > 1:
        operands = case.blocked_source + case.blocked_result
        return WeightGradient(
            operands=operands, weight=case.blocked_weight, padded_bias=_bias(case, BLOCK, bias)
        )
    kernel = prod(case.kernel) * FLOAT
    block = HALF_BLOCK if few else BLOCK
    outputs = up(case.outputs, block)
    gradient = _image(case.result, outputs)
    if case.inputs < _FEWEST_BLOCKED and not case.takes_jit_1x1:
        return WeightGradient(
            operands=gradient,
            weight=outputs * case.inputs * kernel,
            padded_bias=_bias(case, block, bias),
        )
    inputs = up(case.inputs, HALF_BLOCK if few and case.inputs <= HALF_BLOCK else BLOCK)
    source = _image(case.source.shape, inputs)
    return WeightGradient(
        operands=gradient + source + case.strided_source(_CHANNELS_TOGETHER),
        weight=outputs * inputs * kernel,
        padded_bias=_bias(case, block, bias),
    )


def _image(shape: tuple[int, ...], channels: int) -> int:
    return shape[0] * channels * prod(shape[2:]) * FLOAT


def _bias(case: Convolution, block: int, bias: bool) -> int:
    if not bias or case.outputs % block == 0:
        return 0
    return up(case.outputs, block) * FLOAT + ALIGNMENT
