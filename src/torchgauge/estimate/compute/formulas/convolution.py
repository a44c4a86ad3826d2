"""Convolutions, forward and backward: plain, transposed, grouped, depthwise, dilated, deformable.

Every element on the dense side — the output of a convolution, the input of a transposed one —
meets one filter: ``numel(weight) / weight.shape[0]`` MACs. Groups need no term of their own,
because ``weight.shape[1]`` holds the channels of one group; without a batch it holds as well. Each
of the two gradients consists of the same products as the forward.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.compute.formulas.arguments import (
    Shape,
    argument,
    mask,
    output_numel,
    shape,
)
from torchgauge.estimate.compute.registry import names, register_flop_formula
from torchgauge.facts.trace import OpRecord

_DIMENSIONS = ("1d", "2d", "3d")


def _filter_macs(weight: Shape) -> int:
    return prod(weight[1:])


@register_flop_formula(
    "aten.convolution",
    "aten._convolution",
    "aten.convolution_overrideable",
)
def convolution(op: OpRecord) -> int:
    """``x: [b, i, …]``, ``weight: [o, i/g, *kernel]`` (transposed: ``[i, o/g, *kernel]``).

    ``2 · b · o · Π(out) · i/g · Π(kernel)``; transposed ``2 · b · i · Π(in) · o/g · Π(kernel)``.
    """
    transposed = bool(argument(op, 6, "transposed"))
    dense_side = prod(shape(op, 0)) if transposed else output_numel(op)
    return 2 * dense_side * _filter_macs(shape(op, 1))


@register_flop_formula(
    *names("""
        aten.conv1d aten.conv2d aten.conv3d aten._convolution_mode aten.cudnn_convolution
        aten.cudnn_convolution_add_relu aten.cudnn_convolution_relu aten.miopen_convolution
        aten.miopen_convolution_add_relu aten.miopen_convolution_relu
        aten.miopen_depthwise_convolution aten.mkldnn_convolution aten._mps_convolution
        aten._nnpack_spatial_convolution aten._conv_depthwise2d aten.conv_depthwise3d
        aten._slow_conv2d_forward aten.slow_conv3d aten.slow_conv3d_forward
        aten.slow_conv_dilated2d aten.slow_conv_dilated3d aten.thnn_conv2d
        torchvision.deform_conv2d _quantized.conv2d _quantized.conv2d_relu
    """),
    *(f"quantized.conv{d}{kind}" for d in _DIMENSIONS for kind in ("", "_relu", "_dynamic")),
)
def plain_convolution(op: OpRecord) -> int:
    """``weight: [o, i/g, *kernel]``: ``2 · numel(out) · i/g · Π(kernel)``.

    A deformable convolution samples its columns (element-wise work) and then multiplies alike.
    """
    return 2 * output_numel(op) * _filter_macs(shape(op, 1))


@register_flop_formula(
    *names("""
        aten.conv_transpose1d aten.conv_transpose2d aten.conv_transpose3d
        aten.cudnn_convolution_transpose aten.miopen_convolution_transpose
        aten._mps_convolution_transpose aten.slow_conv_transpose2d aten.slow_conv_transpose3d
        mkldnn._convolution_transpose_pointwise _quantized.conv_transpose1d
        _quantized.conv_transpose2d
    """),
    *(f"quantized.conv_transpose{d}{kind}" for d in _DIMENSIONS for kind in ("", "_dynamic")),
)
def transposed_convolution(op: OpRecord) -> int:
    """``weight: [i, o/g, *kernel]``: ``2 · numel(in) · o/g · Π(kernel)``."""
    return 2 * prod(shape(op, 0)) * _filter_macs(shape(op, 1))


@register_flop_formula("mkldnn._convolution_pointwise")
def pointwise_fused_convolution(op: OpRecord) -> int:
    """``(x, weight, …)``, or with a second operand ``(x, other, weight, …)``: as ``conv2d``."""
    return convolution_with_sum(op) if ".binary" in op.name else plain_convolution(op)


@register_flop_formula("quantized.conv2d_add", "quantized.conv2d_add_relu")
def convolution_with_sum(op: OpRecord) -> int:
    """``(x, addend, weight, …)``: as ``conv2d``."""
    return 2 * output_numel(op) * _filter_macs(shape(op, 2))


@register_flop_formula(*(f"onednn.qconv{d}_pointwise" for d in ("", *_DIMENSIONS)))
def onednn_convolution(op: OpRecord) -> int:
    """``(x, scale, zero point, weight, …)``: as ``conv2d``."""
    return 2 * output_numel(op) * _filter_macs(shape(op, 3))


@register_flop_formula("aten.conv_tbc")
def time_first_convolution(op: OpRecord) -> int:
    """``x: [t, b, i]``, ``weight: [kernel, i, o]``: ``2 · numel(out) · kernel · i``."""
    kernel, channels, _ = shape(op, 1)
    return 2 * output_numel(op) * kernel * channels


@register_flop_formula("aten.conv_tbc_backward")
def time_first_convolution_backward(op: OpRecord) -> int:
    """``grad: [t, b, o]``: both gradients always, ``4 · numel(grad) · kernel · i``."""
    kernel, channels, _ = shape(op, 2)
    return 4 * prod(shape(op, 0)) * kernel * channels


_BACKWARDS = {
    "aten.convolution_backward": (0, 10),
    "aten.convolution_backward_overrideable": (0, 9),  # its schema has no ``bias_sizes``
    "aten._slow_conv2d_backward": (0, 6),
    "aten.mps_convolution_backward": (1, 7),
    "aten.mps_convolution_transpose_backward": (0, 8),
    "torchvision._deform_conv2d_backward": (0, -1),
}
"""By operator: where the gradient on the dense side stands, and the mask. The weight is third."""


@register_flop_formula(*_BACKWARDS)
def convolution_backward(op: OpRecord) -> int:
    """``(grad, x, weight, …)``: the forward's FLOPs for each of the gradients asked for.

    Without a mask (a deformable convolution, the out overload of ``_slow_conv2d``) that is both.
    """
    packet = ".".join(op.name.split(".")[:2])
    dense, mask_at = _BACKWARDS[packet]
    if packet.startswith("aten.convolution_") and argument(op, mask_at - 3, "transposed"):
        dense = 1
    wanted = mask(op, mask_at)[:2] or (True, True)  # the third is the bias, a reduction
    return 2 * prod(shape(op, dense)) * _filter_macs(shape(op, 2)) * sum(wanted)
