"""One float32 convolution as oneDNN sees it: what its operands occupy in oneDNN's layouts.

Sources: ``use_mkldnn`` in PyTorch's ``aten/src/ATen/native/Convolution.cpp`` (which library runs)
and ``mkldnn_conv_use_channels_last`` in ``ConvUtils.h``; oneDNN 3.x, ``src/cpu/x64``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torchgauge.estimate.workspaces.target import Target
from torchgauge.report.model import Layout, OpRecord, TensorSpec

FLOAT = 4
BLOCK = 16
"""Channels in a block: floats in a register of AVX-512."""
HALF_BLOCK = 8
ALIGNMENT = 128
"""Bytes that oneDNN adds to each scratchpad entry (``memory_tracking.hpp``)."""
STRIDED_DESCRIPTORS = 20_504
"""Bytes of ``brgconv_strided``'s batch descriptors: measured, oneDNN 3.12."""
_STRIDED_BUFFER = 16_384
"""Bytes that ``brgconv_strided`` rounds its copy of an image up to: 4096 floats."""
_FEW_ELEMENTS = 20_480
_MAX_JIT_KERNEL = 14
"""Widest kernel whose weight gradient ``jit:avx512_core`` computes."""
_MAX_DEPTHWISE_KERNEL = 3
_LARGE_BATCH = 16


def up(value: int, multiple: int) -> int:
    """Return the value rounded up to a multiple."""
    return -(-value // multiple) * multiple


def handed_over(image: TensorSpec) -> int:
    """Return how many copies of the image ``brgconv_strided`` holds while it returns its result.

    It has its channels last: it is written out in PyTorch's order, and then copied.
    """
    return 1 if image.shape[1] == 1 else 2


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
        """Return whether the kernel of matrix products runs it: not volumes with a stride."""
        return self.is_pointwise and (len(self.kernel) < 3 or not self.is_strided)

    @property
    def is_strided(self) -> bool:
        """Return whether a stride is larger than one."""
        return any(step > 1 for step in self.stride)

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
        batch = self.source.shape[0]
        moves = any(size != 1 for size in (*self.stride, *self.dilation))
        wide = len(self.kernel) > 1 and min(self.kernel[-2:]) > 3  # a line is one pixel high
        many = prod(self.source.shape[:4]) > _FEW_ELEMENTS
        worth = self.groups > 1 or wide or batch > 1 or many
        parallel = batch >= _LARGE_BATCH or prod(self.kernel[-2:]) != 1 or self.threads > 1
        return (moves or parallel) and worth

    @property
    def takes_gemm(self) -> bool:
        """Return whether oneDNN unfolds images: the padding is wider than a row of outputs."""
        return any(pad > out for pad, out in zip(self.padding, self.result[2:], strict=True))

    @property
    def exceeds_source(self) -> bool:
        """Return whether the kernel, dilated, is larger than an image."""
        spans = zip(self.kernel, self.dilation, self.source.shape[2:], strict=True)
        return any((size - 1) * step + 1 > extent for size, step, extent in spans)

    @property
    def takes_gemm_for_weights(self) -> bool:
        """Return whether oneDNN unfolds images for the weight's gradient.

        It books the sums of the weight as floats of floats: four times their bytes.
        """
        if self.takes_gemm or max(self.kernel) > _MAX_JIT_KERNEL:
            return True
        if self.is_depthwise:
            return self.exceeds_source or max(self.kernel) > _MAX_DEPTHWISE_KERNEL
        if self.groups == 1:
            return self.exceeds_source and any(step > 1 for step in self.dilation)
        if self.inputs % HALF_BLOCK or (self.outputs // self.groups) % HALF_BLOCK:
            return True
        return self.inputs % BLOCK != 0 and self.exceeds_source

    def image(self, shape: tuple[int, ...], channels_per_group: int) -> int:
        """Return the bytes of activations in blocks of channels."""
        channels = shape[1]
        if self.groups == 1 or self.is_depthwise:
            channels = up(channels, BLOCK)
        elif channels_per_group > BLOCK:
            channels = up(channels_per_group, BLOCK) * self.groups
        return shape[0] * channels * prod(shape[2:]) * FLOAT

    @property
    def blocked_source(self) -> int:
        """Return the bytes of the input in oneDNN's layout, 0 where it stays as it is."""
        return 0 if self.is_first else self.image(self.source.shape, self.inputs)

    @property
    def blocked_result(self) -> int:
        """Return the bytes of the output in oneDNN's layout."""
        return self.image(self.result, self.outputs // self.groups)

    @property
    def blocked_weight(self) -> int:
        """Return the bytes of the weight in oneDNN's layout."""
        elements = prod(self.kernel)
        if self.is_depthwise:
            return up(self.groups, BLOCK) * elements * FLOAT
        if self.groups > 1:
            return self.weight.nbytes
        inputs = self.inputs if self.is_first else up(self.inputs, BLOCK)
        return up(self.outputs, BLOCK) * inputs * elements * FLOAT

    @property
    def padded_bias(self) -> int:
        """Return the bytes of the bias where the channels do not fill their blocks."""
        if not self.has_bias or self.outputs % BLOCK == 0:
            return 0
        return up(self.outputs, BLOCK) * FLOAT + ALIGNMENT

    @property
    def columns(self) -> int:
        """Return the bytes of one image unfolded, one group at a time."""
        return self.inputs * prod(self.kernel) * prod(self.result[2:]) * FLOAT

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

    @property
    def copied_weight(self) -> int:
        """Return the bytes of the weight's copy with its channels last."""
        return 0 if Layout.CHANNELS_LAST in self.weight_layout else self.weight.nbytes

    def strided_scratch(self, channels: int, small: tuple[int, ...], large: tuple[int, ...]) -> int:
        """Return what ``brgconv_strided`` takes to go from small images back to large ones.

        Besides its descriptors, one small image with what the kernel overlaps at its borders.
        """
        extents = []
        for size, step, pad, few, many in zip(
            self.kernel, self.stride, self.padding, small, large, strict=True
        ):
            before = max(0, (size - 1 - pad) // step)
            after = max(0, (many - 1 + pad) // step - (few - 1)) if size > 1 else 0
            extents.append(few + before + after)
        image = channels * prod(extents) * FLOAT
        return STRIDED_DESCRIPTORS + up(image, _STRIDED_BUFFER)


def read(op: OpRecord, target: Target, first: int, result: tuple[int, ...]) -> Convolution | None:
    """Read an op's arguments; ``None`` for what no rule is known for."""
    source, weight = op.args[first], op.args[first + 1]
    stride, padding, dilation, transposed = op.args[first + 3 : first + 7]
    groups = op.args[first + 8]
    assert isinstance(source, TensorSpec) and isinstance(weight, TensorSpec)
    assert isinstance(groups, int)
    if source.dtype != "float32" or source.numel == 0:
        return None
    spatial = len(weight.shape) - 2

    def sizes(value: object) -> tuple[int, ...]:
        assert isinstance(value, tuple)
        return tuple(value) if len(value) == spatial else tuple(value) * spatial

    if len(op.layouts) < first + 2:
        return None
    return Convolution(
        source=source, weight=weight, result=result,
        stride=sizes(stride), padding=sizes(padding), dilation=sizes(dilation), groups=groups,
        is_transposed=bool(transposed), has_bias=bool(op.args[first + 2]), threads=target.threads,
        source_layout=op.layouts[first], weight_layout=op.layouts[first + 1],
    )  # fmt: skip
