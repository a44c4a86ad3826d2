"""Scratch memory of float32 convolutions on the CPU: oneDNN's own layouts of all operands.

Sources: ``use_mkldnn`` in PyTorch's ``aten/src/ATen/native/Convolution.cpp`` (which library runs),
``mkldnn/Conv.cpp`` and ideep's ``operators/conv.hpp`` (what is reordered, and when it is freed),
oneDNN 3.x ``src/cpu/x64`` (layouts: ``jit_avx512_core_f32`` in blocks of 16 channels, ``jit_dw``,
``brgconv`` for channels-last; ``src/cpu/gemm_convolution_utils.cpp``, which takes plain tensors).

Assumes: an x86 processor with AVX-512. Not counted: what ``brgconv`` notes per batch of products
in the backward (up to 70 kB), partial sums per thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torchgauge.estimate.workspaces.target import Rule, Target
from torchgauge.report.model import Layout, OpRecord, TensorSpec

_FLOAT = 4
_BLOCK = 16
"""Channels in a block: floats in a register of AVX-512."""
_BRGEMM_BLOCK = 32
_ALIGNMENT = 128
"""Bytes that oneDNN adds to each scratchpad entry (``memory_tracking.hpp``)."""
_BRGEMM_DESCRIPTORS = 8216
"""Bytes of ``brgconv``'s batch descriptors in a forward: measured, oneDNN 3.7–3.12."""
_MAX_JIT_KERNEL = 14
"""Widest kernel whose weight gradient ``jit:avx512_core`` computes."""
_MAX_DEPTHWISE_KERNEL = 3
_FEW_ELEMENTS = 20_480
_LARGE_BATCH = 16


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


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
    def is_depthwise(self) -> bool:
        """Return whether each channel is a group."""
        return self.groups > 1 and self.inputs == 1 and self.outputs == self.groups

    @property
    def is_channels_last(self) -> bool:
        """Return what ``mkldnn_conv_use_channels_last`` says."""
        return self.source_layout.is_channels_last or self.weight_layout.is_channels_last

    @property
    def is_first(self) -> bool:
        """Return whether the input has too few channels for a block: it stays plain."""
        return self.groups == 1 and self.inputs < _BLOCK

    @property
    def takes_onednn(self) -> bool:
        """Return whether oneDNN runs it, and not PyTorch's own im2col."""
        batch = self.source.shape[0]
        moves = any(size != 1 for size in (*self.stride, *self.dilation))
        wide = len(self.kernel) == 2 and min(self.kernel) > 3
        if len(self.kernel) == 3:
            wide = min(self.kernel[-2:]) > 3
        worth = self.groups > 1 or wide or batch > 1 or self.source.numel > _FEW_ELEMENTS
        if len(self.kernel) == 3:
            worth = (
                self.groups > 1 or wide or batch > 1 or prod(self.source.shape[:4]) > _FEW_ELEMENTS
            )
        parallel = batch >= _LARGE_BATCH or prod(self.kernel[-2:]) != 1 or self.threads > 1
        return (moves or parallel) and worth

    @property
    def takes_gemm(self) -> bool:
        """Return whether oneDNN unfolds images: the padding is wider than a row of outputs."""
        return any(pad > out for pad, out in zip(self.padding, self.result[2:], strict=True))

    def image(self, shape: tuple[int, ...], channels_per_group: int) -> int:
        """Return the bytes of activations in blocks of channels."""
        channels = shape[1]
        if self.groups == 1 or self.is_depthwise:
            channels = _up(channels, _BLOCK)
        elif channels_per_group > _BLOCK:
            channels = _up(channels_per_group, _BLOCK) * self.groups
        return shape[0] * channels * prod(shape[2:]) * _FLOAT

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
            return _up(self.groups, _BLOCK) * elements * _FLOAT
        if self.groups > 1:
            return self.weight.nbytes
        inputs = self.inputs if self.is_first else _up(self.inputs, _BLOCK)
        return _up(self.outputs, _BLOCK) * inputs * elements * _FLOAT

    @property
    def padded_bias(self) -> int:
        """Return the bytes of the bias where the channels do not fill their blocks."""
        if not self.has_bias or self.outputs % _BLOCK == 0:
            return 0
        return _up(self.outputs, _BLOCK) * _FLOAT + _ALIGNMENT

    @property
    def columns(self) -> int:
        """Return the bytes of one image unfolded, one group at a time."""
        return self.inputs * prod(self.kernel) * prod(self.result[2:]) * _FLOAT

    @property
    def strided_source(self) -> int:
        """Return the bytes of one image without the pixels that a 1 × 1 kernel skips."""
        if not self.is_pointwise or all(size == 1 for size in self.stride):
            return 0
        per_image = _up(self.source.shape[1], _BLOCK) * prod(self.result[2:]) * _FLOAT
        return self.threads * per_image + _ALIGNMENT

    @property
    def copied_weight(self) -> int:
        """Return the bytes of the weight's copy with its channels last."""
        return 0 if self.weight_layout.is_channels_last else self.weight.nbytes


def _of(op: OpRecord, target: Target, first: int, result: tuple[int, ...]) -> Convolution | None:
    """Read an op's arguments; ``None`` for what no rule is known for."""
    source, weight = op.args[first], op.args[first + 1]
    stride, padding, dilation, transposed = op.args[first + 3 : first + 7]
    groups = op.args[first + 8]
    assert isinstance(source, TensorSpec) and isinstance(weight, TensorSpec)
    assert isinstance(groups, int)
    if transposed or source.dtype != "float32" or source.numel == 0:
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
        has_bias=bool(op.args[first + 2]), threads=target.threads,
        source_layout=op.layouts[first], weight_layout=op.layouts[first + 1],
    )  # fmt: skip


def _copy(spec: TensorSpec, layout: Layout, *, channels_last: bool) -> int:
    """Return the bytes of a copy in the wanted layout, 0 where none is made."""
    as_wanted = layout.is_channels_last if channels_last else layout.is_contiguous
    return 0 if as_wanted else spec.nbytes


def _forward(op: OpRecord, target: Target) -> tuple[int, ...]:
    """Operands in oneDNN's layouts; then, without channels-last, its result beside PyTorch's.

    ``convolution(source [N, C, …], weight, bias, stride, padding, dilation, …, groups)``.
    """
    output = op.outputs[0]
    case = _of(op, target, 0, output.shape)
    if case is None:
        return ()
    last = case.is_channels_last
    copy = _copy(case.source, case.source_layout, channels_last=last)
    if not case.takes_onednn:
        return (copy, _unfolded(case))
    if last:
        return copy, case.copied_weight, *_forward_channels_last(case)
    if case.takes_gemm:
        return (copy, max(case.columns, output.nbytes))
    inside = (
        case.blocked_source + case.blocked_weight + case.strided_source + case.padded_bias
        + case.blocked_result - output.nbytes
    )  # fmt: skip
    return (copy, max(inside, case.blocked_result))


def _forward_channels_last(case: Convolution) -> tuple[int, ...]:
    if case.is_depthwise:
        return (case.blocked_weight,)
    block = _BRGEMM_BLOCK if case.outputs > _BLOCK else _BLOCK
    weight = _up(case.outputs, block) * case.inputs * prod(case.kernel) * _FLOAT
    return weight, 0 if case.is_pointwise else _BRGEMM_DESCRIPTORS


def _unfolded(case: Convolution) -> int:
    """Return the bytes of all images unfolded; a 1 × 1 kernel on every pixel needs none."""
    steps = any(size != 1 for size in case.stride) or any(case.padding)
    if case.is_pointwise and not steps:
        return 0
    return case.source.shape[0] * case.columns


def _backward(op: OpRecord, target: Target) -> tuple[int, ...]:
    """The input's gradient, then the weight's: the worse of the moments of both.

    ``convolution_backward(gradient [N, C, …], source, weight, bias sizes, stride, …, mask)``.
    """
    gradient = op.args[0]
    assert isinstance(gradient, TensorSpec)
    case = _of(op, target, 1, gradient.shape)
    mask = op.args[10]
    if case is None or not isinstance(mask, tuple):
        return ()
    last = case.is_channels_last
    copies = _copy(gradient, op.layouts[0], channels_last=last)
    copies += _copy(case.source, case.source_layout, channels_last=last)
    if not case.takes_onednn:
        return (copies, _unfolded(case))
    if last:
        copies += case.copied_weight
    image = case.source.nbytes if mask[0] else 0
    moments = []
    if mask[0]:
        moments += _input_gradient(case, gradient)
    if mask[1] or mask[2]:
        held = [image + moment for moment in _weight_gradient(case, gradient, bool(mask[2]))]
        moments += held
    bias = case.outputs * _FLOAT if mask[2] else 0
    kept = image + (case.weight.nbytes if mask[1] else 0) + bias
    return copies, max(0, max(moments, default=0) - kept)


def _input_gradient(case: Convolution, gradient: TensorSpec) -> list[int]:
    """Return the bytes alive in the kernel, and while its result is copied to PyTorch's."""
    image = case.source.nbytes
    if case.is_channels_last:
        if case.is_depthwise:
            return [image + case.blocked_weight]
        weight = case.outputs * _up(case.inputs, _BRGEMM_BLOCK) * prod(case.kernel) * _FLOAT
        return [image + weight]
    dilated = case.is_depthwise and any(size != 1 for size in case.dilation)
    if case.takes_gemm or dilated:
        return [image + case.columns + _ALIGNMENT, 2 * image]
    source = case.image(case.source.shape, case.inputs)
    weight = case.blocked_weight
    if case.is_first:
        weight = _up(case.outputs, _BLOCK) * _up(case.inputs, _BLOCK) * prod(case.kernel) * _FLOAT
    return [case.blocked_result + weight + source, source + image]


def _weight_gradient(case: Convolution, gradient: TensorSpec, bias: bool) -> list[int]:
    """Return the bytes alive in the kernel, and while its result is copied to PyTorch's."""
    own, one_bias = case.weight.nbytes, case.outputs * _FLOAT if bias else 0
    padded = _up(case.outputs, _BLOCK) * _FLOAT + _ALIGNMENT
    padded = padded if bias and case.outputs % _BLOCK else 0
    if case.is_channels_last:
        weight = own
        if case.is_depthwise:
            weight = _up(case.groups, _BLOCK) * _BLOCK * _BLOCK * prod(case.kernel) * _FLOAT
        elif case.groups == 1:
            weight = _up(case.outputs, _BLOCK) * _up(case.inputs, _BLOCK) * prod(case.kernel)
            weight *= _FLOAT
        return [weight + one_bias + padded, weight + 2 * one_bias + 2 * own]
    if _weight_gradient_takes_gemm(case):
        scratch = _FLOAT * own + case.columns + 2 * _ALIGNMENT
        return [own + scratch + one_bias, 2 * own + 2 * one_bias]
    weight = case.blocked_weight
    inside = case.blocked_source + case.blocked_result + weight + one_bias + padded
    return [inside, weight + own + 2 * one_bias]


def _weight_gradient_takes_gemm(case: Convolution) -> bool:
    """Return whether oneDNN unfolds images for the weight's gradient.

    It books the sums of the weight as floats of floats: four times their bytes.
    """
    if case.takes_gemm or max(case.kernel) > _MAX_JIT_KERNEL:
        return True
    if case.is_depthwise:
        small = min(case.source.shape[2:]) < max(case.kernel)
        return small or max(case.kernel) > _MAX_DEPTHWISE_KERNEL
    return case.groups > 1 and case.inputs % 8 != 0


RULES: dict[str, Rule] = {
    "aten.convolution.default": _forward,
    "aten.convolution_backward.default": _backward,
}
"""By operator, overload included."""
