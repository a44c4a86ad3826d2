"""Which of oneDNN's kernels computes a float32 convolution whose images are not channels-last.

Each is asked in turn whether it can; the last one unfolds the images. Sources, oneDNN 3.12:
``cpu_convolution_list.cpp`` (the order) and ``init_conf`` in
``jit_avx512_common_conv_kernel.cpp``, ``jit_uni_dw_conv_kernel_utils.cpp`` and
``jit_avx2_conv_kernel_f32.cpp``, all below ``src/cpu``.

Assumes AVX-512 and one thread. Strided gradients of inputs go to ``brgconv_strided`` before.
"""

from __future__ import annotations

from dataclasses import dataclass

from torchgauge.estimate.memory.workspaces.onednn.convolution_sizes import (
    BLOCK,
    HALF_BLOCK,
    Axis,
    Convolution,
)
from torchgauge.estimate.memory.workspaces.operands import FLOAT, up
from torchgauge.estimate.memory.workspaces.platform import Caches

_QUARTER_BLOCK = 4
_REGISTERS = 28
"""Outputs along a line that stay in registers of AVX-512."""
_REGISTERS_SHARED = 31
_REGISTERS_DEPTHWISE = 6
_REGISTERS_AVX2 = 15
_OUTPUTS_AVX2 = 3
_CODE_BYTES = 256 * 1024
_INSTRUCTION_BYTES = 15
_FEW = 4
"""Input channels below which ``avx512_core`` reads plain images for a weight's gradient."""
_LONG_KERNEL = 14
_LONGEST_LINE = 20
_DEPTHWISE_KERNEL = 3
_SMALL_LINE = 28
_MANY_TOGETHER = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What a kernel wants of its operands."""

    block: int = 0
    """Channels that lie together, 0 where it unfolds images."""
    keeps_source: bool = False
    """Whether the input stays as it is: it has too few channels for a block."""
    is_last: bool = False
    """Whether images have their channels last, and only the weight has blocks."""

    @property
    def unfolds(self) -> bool:
        """Return whether it is a matrix product of unfolded images."""
        return not self.block

    def source(self, case: Convolution) -> int:
        """Return the bytes of the input's copy."""
        return 0 if self.keeps_source else case.images(case.source.shape, self.block)

    def weight(self, case: Convolution) -> int:
        """Return the bytes of the weight's copy."""
        return case.weights(self.block, inputs=1 if self.keeps_source else None)


UNFOLDING = Kernel()


def forward_kernel(case: Convolution, caches: Caches) -> Kernel:
    """Return the kernel of the output."""
    if case.takes_jit_1x1:
        return Kernel(block=BLOCK)
    if case.is_depthwise and len(case.kernel) == 3 and not case.is_dilated:
        return Kernel(block=BLOCK, is_last=True)
    if any(axis.is_outside for axis in case.axes):
        return UNFOLDING
    if case.is_depthwise and len(case.kernel) < 3:
        return Kernel(block=BLOCK) if _depthwise_fits(case) else UNFOLDING
    block = _block(case, (BLOCK, HALF_BLOCK, _QUARTER_BLOCK))
    if block and _wide_forward(case, block, caches):
        return Kernel(block=block, keeps_source=case.is_first)
    flat = case.source.shape[1] < HALF_BLOCK
    if _narrow_block(case, is_flat=flat) and _narrow_forward(case):
        return Kernel(block=HALF_BLOCK, keeps_source=flat)
    return UNFOLDING


def input_kernel(case: Convolution, caches: Caches) -> Kernel:
    """Return the kernel of the input's gradient."""
    if case.takes_jit_1x1:
        return Kernel(block=BLOCK)
    volume = len(case.kernel) == 3
    if case.is_depthwise and not volume:
        return UNFOLDING if case.is_dilated else Kernel(block=BLOCK)
    if any(axis.is_outside or (axis.dilation > 1 < axis.stride) for axis in case.axes):
        return UNFOLDING
    block = _block(case, (BLOCK, HALF_BLOCK, _QUARTER_BLOCK))
    if block and _wide_input(case, block, caches):
        return Kernel(block=block)
    if _block(case, (HALF_BLOCK,)) and _narrow_input(case):
        return Kernel(block=HALF_BLOCK)
    return UNFOLDING


def weight_kernel(case: Convolution) -> Kernel:
    """Return the kernel of the weight's gradient."""
    if case.takes_jit_1x1:
        return Kernel(block=BLOCK)
    if case.is_depthwise and len(case.kernel) < 3:
        return Kernel(block=BLOCK) if takes_depthwise_weight(case) else UNFOLDING
    few = case.groups == 1 and case.inputs < _FEW
    if (few or not case.is_first) and _block(case, (BLOCK,)) and _wide_weight(case):
        return Kernel(block=BLOCK, keeps_source=few)
    flat = case.source.shape[1] == _FEW - 1
    if _narrow_block(case, is_flat=flat) and _narrow_weight(case):
        return Kernel(block=HALF_BLOCK, keeps_source=flat)
    return UNFOLDING


_SLOW_STRIDED = frozenset({
    # inputs, outputs, both extents of the input, of the output, of the kernel
    (128, 256, 101, 85, 49, 41), (3, 128, 207, 175, 101, 85), (512, 1024, 8, 8, 4, 4, 4, 4),
    (1024, 2048, 4, 4, 2, 2, 4, 4), (64, 128, 513, 513, 256, 256, 3, 3),
    (32, 64, 1025, 1025, 512, 512, 3, 3), (128, 256, 257, 257, 128, 128, 3, 3),
    (256, 512, 49, 41, 23, 19, 5, 5), (64, 128, 14, 14, 7, 7, 4, 4), (1, 64, 28, 28, 14, 14, 4, 4),
})  # fmt: skip
"""Images that ``brgconv_strided`` leaves to others, all with strides of 2."""


def takes_strided(case: Convolution) -> bool:
    """Return whether ``brgconv_strided`` computes the input's gradient.

    Source: ``init_jcp`` in oneDNN 3.12's ``jit_brgemm_conv_bwd_utils.cpp``.
    """
    if not case.is_strided or case.is_dilated:
        return False
    if case.groups > 1:
        return case.outputs // case.groups > BLOCK
    sizes = (case.inputs, case.outputs, *case.source.shape[2:], *case.result[2:])
    return not (len(case.kernel) == 2 and {sizes, (*sizes, *case.kernel)} & _SLOW_STRIDED)


def output_is_blocked(case: Convolution, caches: Caches) -> bool:
    """Return whether channels that are last have a kernel for the output besides products."""
    if any(axis.is_outside for axis in case.axes):
        return False
    if case.is_depthwise and len(case.kernel) < 3:
        return _depthwise_fits(case)
    return _wide_forward(case, _loose_block(case), caches)


def input_is_blocked(case: Convolution, caches: Caches) -> bool:
    """Return whether channels that are last have a kernel for the input's gradient."""
    if any(axis.is_outside or (axis.dilation > 1 < axis.stride) for axis in case.axes):
        return False
    return _wide_input(case, _loose_block(case), caches)


def weight_is_blocked(case: Convolution) -> bool:
    """Return whether channels that are last have a kernel for the weight's gradient."""
    return case.takes_jit_1x1 or _wide_weight(case)


def _depthwise_fits(case: Convolution) -> bool:
    line = case.axes[-1]
    together = min(_REGISTERS_DEPTHWISE, line.result)
    return max(line.pad, _last_end(line, together)) <= together


def _loose_block(case: Convolution) -> int:
    channels = (case.inputs, case.outputs // case.groups)
    if max(channels) >= BLOCK:
        return BLOCK
    return _block(case, (HALF_BLOCK, _QUARTER_BLOCK)) or BLOCK


def _block(case: Convolution, blocks: tuple[int, ...]) -> int:
    """Return the first block that the channels of a group fill: without groups they are padded."""
    if case.groups == 1:
        return blocks[0]
    channels = (case.inputs, case.outputs // case.groups)
    return next((block for block in blocks if not any(n % block for n in channels)), 0)


def _narrow_block(case: Convolution, *, is_flat: bool) -> bool:
    """Return whether ``avx2`` has blocks for the channels; those of few images stay plain."""
    if is_flat and case.groups > 1:
        return not (case.outputs // case.groups) % HALF_BLOCK
    few = case.groups > 1 and case.inputs < HALF_BLOCK
    return not few and bool(_block(case, (HALF_BLOCK,)))


def _last_end(axis: Axis, together: int) -> int:
    """Return the padding read by the last of the outputs that are computed ``together``."""
    return max(0, axis.end(axis.result - axis.result % together))


def _code_fits(kernel: int, block: int, together: int, borders: int) -> bool:
    return borders * kernel * block * together * _INSTRUCTION_BYTES <= _CODE_BYTES


# ---------------------------------------------------------------------------- avx512_core


def _wide_forward(case: Convolution, block: int, caches: Caches) -> bool:
    line = case.axes[-1]
    side, together = 1, min(line.result, _REGISTERS)
    steps = line.result // together
    borders = 1 + (line.pad > 0) + (line.end(together * steps) > 0)
    if not _keeps_one_block(case, block, caches):
        blocks = up(case.outputs // case.groups, block) // block
        most = min(blocks, _MANY_TOGETHER)
        side = next(count for count in range(most, 0, -1) if blocks % count == 0)
        together = min(line.result, _REGISTERS_SHARED // (side + 1))
    channels = case.inputs if case.is_first else block
    return max(line.pad, _last_end(line, together)) <= together and _code_fits(
        line.kernel, channels * side, together, borders
    )


def _keeps_one_block(case: Convolution, block: int, caches: Caches) -> bool:
    """Return whether outputs are computed for one block of channels at a time."""
    *_, high, line = case.axes
    deep = case.axes[0].kernel if len(case.axes) == 3 else 1
    channels = case.inputs if case.is_first else block
    taken = (
        -(-line.source // line.stride) * channels * high.kernel * deep + 2 * line.result * block
        + 2 * high.kernel * line.kernel * deep * channels * block
    ) * FLOAT  # fmt: skip
    batch = case.source.shape[0]
    outputs = up(case.outputs // case.groups, block)
    base = line.kernel == 3 and line.result <= _SMALL_LINE and taken < caches.first
    if line.kernel > 3:
        return True
    if line.stride == 1 and high.stride == 1:
        if base:
            return True
    elif batch <= 16 and (outputs <= 192 or high.result <= 10) and base:
        return True
    narrow = line.result <= _REGISTERS or (line.result <= 147 and outputs <= 96)
    return batch == 1 and (narrow or case.is_first)


def _wide_input(case: Convolution, block: int, caches: Caches) -> bool:
    *_, high, line = case.axes
    deep = case.axes[0].kernel if len(case.axes) == 3 else 1
    inputs = up(case.inputs, block) // block
    is_whole_line = (
        _LONG_KERNEL <= line.kernel < _LONGEST_LINE and line.result == 1 and inputs > 1
        and line.kernel == line.source and line.stride == 1 and not case.is_dilated
    )  # fmt: skip
    if is_whole_line:
        return True
    taken = (
        2 * line.source * block * high.kernel + line.result * block
        + 2 * high.kernel * line.kernel * block * block
    ) * FLOAT  # fmt: skip
    small = line.source <= 5 or 8 < line.source <= 13
    shares = (
        line.kernel == 1
        or (line.kernel == 5 and line.source < 8)
        or (line.kernel < 5 and (small or taken > caches.first))
    )
    steps = max(high.stride, case.axes[0].stride if deep > 1 else 1)
    side = 1
    if not shares or steps > 1:
        together = min(line.source, _REGISTERS)
        one = line.kernel > 3 or (line.kernel == 3 and taken < caches.first and line.result > 8)
        if not one and steps == 1 and inputs % 2 == 0:
            side, together = 2, min(line.source, _REGISTERS_SHARED // 3)
    else:
        most = min(4, inputs)
        side = next(count for count in range(most, 0, -1) if inputs % count == 0)
        together = min(line.source, _REGISTERS_SHARED // (side + 1))
    before = max(0, (line.extent - 1 - line.pad) // line.stride)
    return before * line.stride <= together and _tails_fit(line, together, before, block * side)


def _tails_fit(line: Axis, together: int, before: int, channels: int) -> bool:
    tail, end = line.source % together, line.end(line.result)
    after = max(0, (line.extent - 1 - max(0, end + tail)) // line.stride)
    several = line.source > together
    if after * line.stride > together or (several and (together % line.stride or end + tail < 0)):
        return False
    return _code_fits(line.kernel, channels, together, 1 + (before > 0) + (after > 0))


def _wide_weight(case: Convolution) -> bool:
    *_, high, line = case.axes
    if any(axis.dilation > 1 for axis in (case.axes[0], *case.axes)[: len(case.axes) - 2]):
        return False  # of a volume's depth
    if high.dilation > 1 and (high.stride > 1 or high.extent > high.source):
        return False
    ends = [max(0, axis.end(axis.result)) for axis in case.axes]
    half = high.extent // 2
    fits = (
        max(line.pad, ends[-1]) < line.extent and max(high.pad, ends[-2]) <= half
        and max(line.pad, ends[-1]) <= _REGISTERS
    )  # fmt: skip
    if len(case.axes) == 3:
        deep = case.axes[0]
        fits = fits and max(deep.pad, ends[0]) < deep.extent
        fits = fits and (deep.pad == 0 or deep.kernel < deep.source + deep.pad)
    is_whole_line = (
        len(case.kernel) < 3 and _LONG_KERNEL <= line.kernel < _LONGEST_LINE
        and line.result == 1 and line.kernel == line.source
        and not (case.is_strided or case.is_dilated or any(case.padding) or any(ends))
    )  # fmt: skip
    return fits and (is_whole_line or line.kernel <= _LONG_KERNEL)


def takes_depthwise_weight(case: Convolution) -> bool:
    """Return whether the kernel of depthwise convolutions computes the weight's gradient."""
    *_, high, line = case.axes
    if case.is_dilated or line.kernel > _DEPTHWISE_KERNEL or line.stride > line.kernel:
        return False
    for axis in (high, line):
        end = axis.end(axis.result)
        if max(axis.pad, end) > axis.kernel // 2:
            return False
    end = high.end(high.result)
    multiples = all(pad <= 1 or pad % high.stride == 0 for pad in (high.pad, end))
    return multiples and high.source >= high.kernel + -high.pad % high.stride


# ---------------------------------------------------------------------------- avx2


def _narrow_forward(case: Convolution) -> bool:
    *_, high, line = case.axes
    together = min(_OUTPUTS_AVX2, line.result)
    if line.pad > together:
        return False
    if line.kernel > 7 and (high.pad or line.pad) and (line.stride > 1 or high.stride > 1):
        return False
    end = _last_end(line, together)
    if end > together * line.stride and line.result // together > 1:
        most = min(line.result, _REGISTERS_AVX2 // 2)
        together = min(end // line.stride + line.result % together, most)
        return together >= max(line.pad, _last_end(line, together))
    return True


def _narrow_input(case: Convolution) -> bool:
    *_, high, line = case.axes
    if case.inputs < HALF_BLOCK and line.kernel > 3 and line.stride > 1:
        return False
    if line.stride != high.stride or (len(case.axes) == 3 and case.axes[0].stride > 1):
        return False
    before = max(0, (line.extent - 1 - line.pad) // line.stride)
    blocks = up(case.inputs, HALF_BLOCK) // HALF_BLOCK
    best, together = 0, 1
    for side in range(1, 5):
        if blocks % side:
            continue
        wide = line.stride
        while wide * side + wide // line.stride <= _REGISTERS_AVX2 and (
            wide < line.source + line.stride
        ):
            width = min(wide, line.source)
            wide += line.stride
            if before * line.stride > width != line.source:
                continue
            count = -(-width // line.stride) * side
            if count > best or (count == best and together < width):
                best, together = count, width
    if not best:
        return False
    tail, end = line.source % together, line.end(line.result)
    after = max(0, int((line.extent - 1 - end - tail) / line.stride))
    several = line.source > together
    return not (
        after * line.stride > together or (several and (together % line.stride or end + tail < 0))
    )


def _narrow_weight(case: Convolution) -> bool:
    line = case.axes[-1]
    ends = [max(0, axis.end(axis.result)) for axis in case.axes]
    if len(case.axes) == 3 and (case.axes[0].pad or ends[0]):
        return False
    if case.is_dilated or line.kernel >= _LONG_KERNEL:
        return False
    axes = zip(case.axes, ends, strict=True)
    return all(max(axis.pad, end) < axis.extent for axis, end in axes) and all(
        axis.kernel <= axis.source for axis in case.axes[:-1]
    )
