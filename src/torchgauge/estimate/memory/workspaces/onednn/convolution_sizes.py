"""One float32 convolution as oneDNN sees it: what its operands occupy in oneDNN's layouts.

Sources: ``use_mkldnn`` in PyTorch's ``aten/src/ATen/native/Convolution.cpp`` (which library runs)
and ``mkldnn_conv_use_channels_last`` in ``ConvUtils.h``; oneDNN 3.x, ``src/cpu/x64``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torchgauge.estimate.arguments import integer, integers, tensor
from torchgauge.estimate.memory.workspaces.operands import FLOAT, itemsize, up
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec

BLOCK = 16
"""Channels in a block: floats in a register of AVX-512."""
HALF_BLOCK = 8
ALIGNMENT = 128
"""Bytes that oneDNN adds to each scratchpad entry (``memory_tracking.hpp``)."""
_DESCRIPTOR = 40
"""Bytes of the addresses of a pair of blocks that are multiplied."""
_STRIDED_BUFFER = 4096
"""Floats that ``brgconv_strided`` rounds its copy of an image up to."""
_PAGE = 4096
_DTYPES = ("float32", "float64")
"""Those whose kernels are known: float64 is never oneDNN's."""
_FEW_ELEMENTS = 20_480
_LARGE_BATCH = 16


def aligned(scratch: int, nested: bool = True) -> int:
    """Return the bytes of scratch memory as the kernel books it that it is nested in, if it is."""
    return scratch + ALIGNMENT if nested and scratch else scratch


def is_one_order(shape: tuple[int, ...]) -> bool:
    """Return whether images are the same with their channels last: of one channel, or pixel."""
    return shape[1] == 1 or prod(shape[2:]) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One dimension of a convolution's images."""

    source: int
    result: int
    kernel: int = 1
    stride: int = 1
    pad: int = 0
    dilation: int = 1

    @property
    def extent(self) -> int:
        """Return how far the dilated kernel reaches."""
        return (self.kernel - 1) * self.dilation + 1

    def end(self, results: int) -> int:
        """Return how far the kernel of the first ``results`` outputs reaches over the end."""
        return (results - 1) * self.stride + self.extent - self.source - self.pad

    @property
    def is_outside(self) -> bool:
        """Return whether an output reads nothing but padding."""
        return self.extent <= max(self.pad, self.end(self.result))


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """One convolution: its sizes, and the layouts in which its operands come."""

    source: TensorSpec
    weight: TensorSpec
    result: tuple[int, ...]
    """``[N, C, *spatial]`` of the output."""
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    is_transposed: bool
    has_bias: bool
    source_layout: Layout
    weight_layout: Layout
    threads: int

    @property
    def kernel(self) -> tuple[int, ...]:
        """Return the extents of the kernel."""
        return self.weight.shape[2:]

    @property
    def itemsize(self) -> int:
        """Return the bytes of an element."""
        return itemsize(self.weight)

    @property
    def inputs(self) -> int:
        """Return the input channels of a group."""
        return self.weight.shape[1]

    @property
    def outputs(self) -> int:
        """Return the output channels of all groups."""
        return self.weight.shape[0]

    @property
    def is_pointwise(self) -> bool:
        """Return whether the kernel has one element."""
        return prod(self.kernel) == 1

    @property
    def takes_jit_1x1(self) -> bool:
        """Return whether the kernel of matrix products runs it.

        It takes whole blocks of channels, and leaves pixels out of images in two dimensions that
        the stride divides (``rtus_prepare`` in ``jit_uni_1x1_conv_utils.hpp``).
        """
        if not self.is_pointwise or self.is_depthwise or any(self.padding):
            return False
        if self.groups > 1 and (self.inputs % BLOCK or (self.outputs // self.groups) % BLOCK):
            return False
        divides = all(axis.result * axis.stride == axis.source for axis in self.axes)
        return not self.is_strided or (len(self.kernel) < 3 and self.groups == 1 and divides)

    @property
    def is_strided(self) -> bool:
        """Return whether a stride is larger than one."""
        return any(step > 1 for step in self.stride)

    @property
    def is_dilated(self) -> bool:
        """Return whether the kernel has gaps."""
        return any(step > 1 for step in self.dilation)

    @property
    def spatial_result(self) -> tuple[int, ...]:
        """Return the extents of the output that are handled together: a volume's are planes."""
        return self.result[2:][-2:]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Return all dimensions, the innermost last: a line is an image one pixel high."""
        axes = tuple(
            Axis(source=many, result=few, kernel=size, stride=step, pad=pad, dilation=apart)
            for many, few, size, step, pad, apart in zip(
                self.source.shape[2:], self.result[2:], self.kernel, self.stride, self.padding,
                self.dilation, strict=True,
            )
        )  # fmt: skip
        return axes if len(axes) > 1 else (Axis(source=1, result=1), *axes)

    @property
    def is_depthwise(self) -> bool:
        """Return whether each channel is a group."""
        return self.groups > 1 and self.inputs == 1 and self.outputs == self.groups

    @property
    def is_channels_last(self) -> bool:
        """Return whether oneDNN is told to keep channels last."""
        return Layout.SUGGESTS_CHANNELS_LAST in self.source_layout | self.weight_layout

    @property
    def is_first(self) -> bool:
        """Return whether the input has too few channels for a block: it stays plain."""
        return self.groups == 1 and self.inputs < BLOCK and not self.takes_jit_1x1

    @property
    def takes_onednn(self) -> bool:
        """Return whether oneDNN runs it, and not PyTorch's own im2col."""
        if self.source.dtype != "float32":
            return False
        batch = self.source.shape[0]
        moves = any(size != 1 for size in (*self.stride, *self.dilation))
        wide = len(self.kernel) > 1 and min(self.kernel[-2:]) > 3  # a line is one pixel high
        many = prod(self.source.shape[:4]) > _FEW_ELEMENTS
        worth = self.groups > 1 or wide or batch > 1 or many
        parallel = batch >= _LARGE_BATCH or prod(self.kernel[-2:]) != 1 or self.threads > 1
        return (moves or parallel) and worth

    def images(self, shape: tuple[int, ...], block: int) -> int:
        """Return the bytes of images in blocks of channels; those of groups fill theirs."""
        channels = shape[1]
        if self.groups == 1 or self.is_depthwise:
            channels = up(channels, block)
        return shape[0] * channels * prod(shape[2:]) * FLOAT

    def weights(self, block: int, *, inputs: int | None = None) -> int:
        """Return the bytes of the weight in blocks of outputs and ``inputs``, by default alike."""
        elements = prod(self.kernel) * FLOAT
        if self.is_depthwise:
            return up(self.groups, block) * elements
        if self.groups > 1:
            return self.weight.nbytes
        return up(self.outputs, block) * up(self.inputs, inputs or block) * elements

    def padded_bias(self, block: int) -> int:
        """Return the bytes of a bias where the channels do not fill their blocks."""
        if self.groups > 1 and not self.is_depthwise:
            return 0
        channels = up(self.outputs, block)
        return 0 if channels == self.outputs else channels * FLOAT + ALIGNMENT

    def strided_source(self, most_channels: int | None = None) -> int:
        """Return the bytes of one image without the pixels that a 1 × 1 kernel skips.

        Of as many channels as are handled together, of all without ``most_channels``.
        """
        if not self.takes_jit_1x1 or not self.is_strided:
            return 0
        channels = up(self.source.shape[1], BLOCK)
        channels = min(channels, most_channels or channels)
        per_image = channels * prod(self.result[2:]) * FLOAT
        return self.threads * per_image + ALIGNMENT

    def copied(self, operand: TensorSpec, layout: Layout) -> int:
        """Return the bytes of an operand's copy, 0 where its channels lie as oneDNN is told."""
        wanted = Layout.CHANNELS_LAST if self.is_channels_last else Layout.CONTIGUOUS
        return 0 if wanted in layout else operand.nbytes

    @property
    def strides_divide_source(self) -> bool:
        """Return whether the strides divide the input."""
        return all(axis.source % axis.stride == 0 for axis in self.axes)

    def descriptors(self, steps: tuple[int, ...] | None = None) -> int:
        """Return the bytes in which ``brgconv`` lists the pairs of blocks that it multiplies.

        There is one for each element of the kernel, or for so many ``steps``.
        """
        batch = up(prod(self.kernel if steps is None else steps) * _DESCRIPTOR, _PAGE)
        return up(batch, _DESCRIPTOR) + _PAGE

    def strided_scratch(self, cache: int) -> int:
        """Return what ``brgconv_strided`` takes to go from the small output back to the input.

        Besides its descriptors, one small image with what the kernel overlaps at its borders, and
        a line of the large one where the stride does not divide it. Each begins at a page.
        """
        extents = []
        for axis in self.axes:
            before = max(0, axis.kernel - 1 - axis.pad) // axis.stride
            after = max(0, axis.kernel - 1 - axis.end(axis.result)) // axis.stride
            extents.append(axis.result + before + after)
        line = self.axes[-1]
        buffers = [self.outputs * prod(extents)]
        if line.source % line.stride:
            pixels = up(line.source, line.stride) * line.stride
            buffers.append(pixels * self.inputs * self.groups)
        pages = sum(up(buffer, _STRIDED_BUFFER) * FLOAT + _PAGE for buffer in buffers)
        inputs = up(self.inputs, BLOCK)
        together = next(block for block in (4 * BLOCK, 2 * BLOCK, BLOCK) if inputs % block == 0)
        steps = self.kernel
        if prod(steps) * self.outputs // self.groups * together * FLOAT > cache:
            steps = (*self.stride[:-1], steps[-1])  # as many rows as the stride skips
        return self.descriptors(steps) + 2 * _PAGE + pages


def read(
    op: OpRecord, platform: Platform, first: int, result: tuple[int, ...]
) -> Convolution | None:
    """Read an op's arguments; ``None`` for what no rule is known for."""
    source, weight = tensor(op, first), tensor(op, first + 1)
    if source.dtype not in _DTYPES or source.numel == 0 or weight.numel == 0:
        return None
    if len(op.layouts) < first + 2:
        return None
    spatial = len(weight.shape) - 2
    steps = (integers(op, position) for position in range(first + 3, first + 6))
    stride, padding, dilation = (one if len(one) == spatial else one * spatial for one in steps)
    return Convolution(
        source=source, weight=weight, result=result,
        stride=stride, padding=padding, dilation=dilation,
        groups=integer(op, first + 8), is_transposed=bool(op.args[first + 6]),
        has_bias=bool(op.args[first + 2]), threads=platform.threads,
        source_layout=op.layouts[first], weight_layout=op.layouts[first + 1],
    )  # fmt: skip
