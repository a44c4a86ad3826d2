"""Scratch memory of float32 convolutions on the CPU whose images have their channels last.

Images stay as they are, and the weight alone is laid out. Sources, oneDNN 3.12 ``src/cpu``:
``cpu_convolution_list.cpp`` (the order), ``x64/jit_brgemm_conv_utils.cpp``,
``x64/jit_brgemm_conv_bwd_utils.cpp`` and ``gemm_convolution_utils.cpp``; which blocks a weight
has was measured. Weight: ``[O, I / groups, …]``.

Assumes AVX-512 and one thread. Not counted: the copies of images of one channel that oneDNN unfolds
to lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torchgauge.estimate.memory.workspaces.onednn import kernels
from torchgauge.estimate.memory.workspaces.onednn.convolution_sizes import (
    ALIGNMENT,
    BLOCK,
    HALF_BLOCK,
    Convolution,
    aligned,
)
from torchgauge.estimate.memory.workspaces.onednn.unfolded_images import fits, stays_folded
from torchgauge.estimate.memory.workspaces.operands import FLOAT, up
from torchgauge.estimate.memory.workspaces.platform import Platform

_MANY_PIXELS = 81
_FILLED = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Bytes that a kernel takes."""

    weight: int = 0
    """The weight, or its gradient, in the kernel's layout."""
    scratch: int = 0
    """Everything else."""

    def total(self, *, nested: bool = False) -> int:
        """Return both; a kernel that this one is nested in aligns scratch memory once more."""
        return self.weight + aligned(self.scratch, nested)


def output_taken(case: Convolution, platform: Platform) -> Taken:
    """Return what the output takes: the weight in blocks, and descriptors of its parts."""
    if case.is_depthwise and not case.is_dilated:
        return Taken(weight=case.weights(BLOCK))
    if case.groups > 1 and case.inputs <= BLOCK:
        if kernels.output_is_blocked(case, platform.caches):
            is_image = case.is_depthwise and len(case.kernel) < 3
            return Taken(weight=case.weights(BLOCK) if is_image else _blocked_groups(case))
        scratch = _columns(case, 1) + _image(case, case.source.shape)
        return Taken(weight=_copied(case), scratch=scratch)
    outputs = case.outputs // case.groups
    outputs = up(outputs, _together(case, outputs, case.result, case.source.shape))
    return Taken(weight=_weight(case, outputs, case.inputs), scratch=case.descriptors())


def input_taken(case: Convolution, platform: Platform) -> Taken:
    """Return the scratch bytes for the input's gradient."""
    outputs = case.outputs // case.groups
    if kernels.takes_strided(case):
        scratch = case.strided_scratch(platform.caches.second)
        return Taken(weight=strided_weight(case), scratch=scratch)
    if case.is_depthwise and len(case.kernel) < 3 and not case.is_dilated:
        return Taken(weight=case.weights(BLOCK))
    if case.takes_jit_1x1 and case.is_strided:
        weight = _weight(case, up(outputs, BLOCK), up(case.inputs, BLOCK))
        return Taken(weight=weight, scratch=_image(case, case.result))
    if not case.is_strided and (case.groups == 1 or outputs > BLOCK):
        weight = _weight(case, outputs, up(case.inputs, _input_block(case)))
        return Taken(weight=weight, scratch=case.descriptors() + ALIGNMENT)
    if case.groups > 1 and kernels.input_is_blocked(case, platform.caches):
        return Taken(weight=_blocked_groups(case))
    return _unfolded_input(case)


def transposed_taken(case: Convolution, backwards: Convolution, platform: Platform) -> Taken:
    """Return the scratch bytes of a transposed convolution, without those for a bias.

    Without strides it is a convolution with its kernel turned round.
    """
    if case.is_strided or case.is_depthwise:
        return input_taken(backwards, platform)
    inputs, outputs = case.weight.shape[0] // case.groups, case.weight.shape[1]
    block = HALF_BLOCK if inputs <= BLOCK else BLOCK
    if case.groups == 1:
        block = _together(case, outputs, backwards.source.shape, case.source.shape)
    weight = _weight(case, up(outputs, block), inputs)
    return Taken(weight=weight, scratch=case.descriptors())


def weight_taken(case: Convolution, *, bias: bool) -> Taken:
    """Return the scratch bytes for the weight's gradient, without PyTorch's own copy."""
    if case.is_depthwise and len(case.kernel) < 3 and kernels.takes_depthwise_weight(case):
        return Taken(weight=case.weights(BLOCK))
    if kernels.weight_is_blocked(case):
        outputs = up(case.outputs // case.groups, BLOCK)
        inputs = case.inputs if case.is_first else up(case.inputs, BLOCK)
        padded = case.groups * outputs
        scratch = padded * FLOAT + ALIGNMENT if bias and padded != case.outputs else 0
        if case.takes_jit_1x1 and case.is_strided:
            scratch += _image(case, case.result)
        return Taken(weight=_weight(case, outputs, inputs), scratch=scratch)
    sums = FLOAT * case.weight.nbytes + ALIGNMENT
    scratch = _columns(case, 1) + sums + _image(case, case.source.shape)
    return Taken(weight=case.weight.nbytes, scratch=scratch if fits(case, scratch) else 0)


def strided_weight(case: Convolution) -> int:
    """Return the bytes of the weight as ``brgconv_strided`` wants it."""
    return _weight(case, case.outputs // case.groups, up(case.inputs, _input_block(case)))


def _weight(case: Convolution, outputs: int, inputs: int) -> int:
    return case.groups * outputs * inputs * prod(case.kernel) * FLOAT


def _blocked_groups(case: Convolution) -> int:
    """Return the bytes of a weight whose groups fill blocks of 16 channels, or smaller ones."""
    channels = (case.inputs, case.outputs // case.groups)
    if max(channels) < BLOCK and not any(count % (BLOCK // 4) for count in channels):
        return case.weight.nbytes
    return _weight(case, up(channels[1], BLOCK), up(channels[0], BLOCK))


def _input_block(case: Convolution) -> int:
    """Return the inputs that lie together for the input's gradient."""
    return _together(case, case.inputs, case.source.shape, case.result)


def _together(
    case: Convolution, channels: int, made: tuple[int, ...], read: tuple[int, ...]
) -> int:
    """Return the most channels that ``brgconv`` tries as a block (``fast_check_oc_block``)."""
    filled, steps = up(channels, BLOCK), prod(case.stride)
    is_point = case.is_pointwise and not any(case.padding)
    positions = prod(made[2:] if is_point else read[2:])
    if case.groups > 1 or filled == BLOCK:
        return BLOCK
    four, three = filled % (4 * BLOCK) == 0, filled % (3 * BLOCK) == 0
    if is_point:
        four = four and positions >= 4 * BLOCK * steps
        three = channels / up(channels, 3 * BLOCK) >= _FILLED
    else:
        four = four and filled < 12 * BLOCK
        three = three and filled <= 24 * BLOCK and positions > _MANY_PIXELS * steps
    return 4 * BLOCK if four else 3 * BLOCK if three else 2 * BLOCK


def _columns(case: Convolution, depth: int) -> int:
    if stays_folded(case):
        return 0
    return case.inputs * prod(case.kernel) * prod(case.spatial_result) * depth * FLOAT + ALIGNMENT


def _copied(case: Convolution) -> int:
    """Return the bytes of the weight with its outputs innermost, 0 where they are already."""
    return case.weight.nbytes if prod(case.kernel) * case.inputs > 1 < case.outputs else 0


def _image(case: Convolution, shape: tuple[int, ...]) -> int:
    return case.inputs * prod(shape[2:]) * FLOAT + ALIGNMENT


def _unfolded_input(case: Convolution) -> Taken:
    scratch = _columns(case, case.result[2] if len(case.kernel) == 3 else 1)
    if case.groups > 1:
        scratch += _image(case, case.source.shape)
    return Taken(weight=_copied(case), scratch=scratch) if fits(case, scratch) else Taken()
