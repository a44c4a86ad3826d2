"""Convolutions, forward and backward: plain, transposed, grouped, depthwise, dilated, deformable.

Every element on the dense side — the output of a convolution, the input of a transposed one —
meets one filter: ``numel(weight) / weight.shape[0]`` MACs. Groups need no term of their own,
because ``weight.shape[1]`` holds the channels of one group; without a batch it holds as well. Each
of the two gradients consists of the same products as the forward.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.compute.formulas.arguments import (
    FILTER,
    argument,
    dot_products,
    mask,
    output_numel,
    shape,
)
from torchgauge.estimate.compute.registry import register_flop_formula, register_table
from torchgauge.facts.trace import OpRecord

_TAPS = slice(0, 2)
"""Kernel and input channels of a weight ``[kernel, i, o]``."""


@register_flop_formula("aten.convolution", "aten._convolution", "aten.convolution_overrideable")
def convolution(op: OpRecord) -> int:
    """``x: [b, i, …]``, ``weight: [o, i/g, *kernel]`` (transposed: ``[i, o/g, *kernel]``).

    ``2 · b · o · Π(out) · i/g · Π(kernel)``; transposed ``2 · b · i · Π(in) · o/g · Π(kernel)``.
    """
    transposed = bool(argument(op, 6, "transposed"))
    dense_side = prod(shape(op, 0)) if transposed else output_numel(op)
    return 2 * dense_side * prod(shape(op, 1)[FILTER])


register_table({
    # ``weight: [o, i/g, *kernel]``: ``2 · numel(out) · i/g · Π(kernel)``. A deformable convolution
    # samples its columns (element-wise work) and then multiplies alike.
    """
        aten.conv1d aten.conv2d aten.conv3d aten._convolution_mode aten.cudnn_convolution
        aten.cudnn_convolution_add_relu aten.cudnn_convolution_relu aten.miopen_convolution
        aten.miopen_convolution_add_relu aten.miopen_convolution_relu
        aten.miopen_depthwise_convolution aten.mkldnn_convolution aten._mps_convolution
        aten._nnpack_spatial_convolution aten._conv_depthwise2d aten.conv_depthwise3d
        aten._slow_conv2d_forward aten.slow_conv3d aten.slow_conv3d_forward
        aten.slow_conv_dilated2d aten.slow_conv_dilated3d aten.thnn_conv2d
        torchvision.deform_conv2d _quantized.conv2d _quantized.conv2d_relu
        quantized.conv1d quantized.conv1d_relu quantized.conv1d_dynamic
        quantized.conv2d quantized.conv2d_relu quantized.conv2d_dynamic
        quantized.conv3d quantized.conv3d_relu quantized.conv3d_dynamic
    """: dot_products(factor=1, dims=FILTER),
    # ``weight: [i, o/g, *kernel]``: ``2 · numel(in) · o/g · Π(kernel)``
    """
        aten.conv_transpose1d aten.conv_transpose2d aten.conv_transpose3d
        aten.cudnn_convolution_transpose aten.miopen_convolution_transpose
        aten._mps_convolution_transpose aten.slow_conv_transpose2d aten.slow_conv_transpose3d
        mkldnn._convolution_transpose_pointwise _quantized.conv_transpose1d
        _quantized.conv_transpose2d
        quantized.conv_transpose1d quantized.conv_transpose1d_dynamic quantized.conv_transpose2d
        quantized.conv_transpose2d_dynamic quantized.conv_transpose3d
        quantized.conv_transpose3d_dynamic
    """: dot_products(of=0, factor=1, dims=FILTER),
    # ``(x, weight, …)``, or with a second operand ``(x, other, weight, …)``: as ``conv2d``
    "mkldnn._convolution_pointwise": dot_products(factor=1, dims=FILTER),
    """
        mkldnn._convolution_pointwise.binary mkldnn._convolution_pointwise_.binary
        quantized.conv2d_add quantized.conv2d_add_relu
    """: dot_products(factor=2, dims=FILTER),
    # ``(x, scale, zero point, weight, …)``: as ``conv2d``
    """
        onednn.qconv_pointwise onednn.qconv1d_pointwise onednn.qconv2d_pointwise
        onednn.qconv3d_pointwise
    """: dot_products(factor=3, dims=FILTER),
    # ``x: [t, b, i]``, ``weight: [kernel, i, o]``: ``2 · numel(out) · kernel · i``
    "aten.conv_tbc": dot_products(factor=1, dims=_TAPS),
    # ``grad: [t, b, o]``: both gradients always, ``4 · numel(grad) · kernel · i``
    "aten.conv_tbc_backward": dot_products(of=0, factor=2, dims=_TAPS, times=4),
    # ``(grad, x, weight, …)``: the forward's FLOPs for each of the gradients asked for. The out
    # overload of ``_slow_conv2d`` has no mask: both.
    "aten._slow_conv2d_backward": dot_products(of=0, factor=2, dims=FILTER, mask_at=6),
    "aten.mps_convolution_backward": dot_products(of=1, factor=2, dims=FILTER, mask_at=7),
    "aten.mps_convolution_transpose_backward": dot_products(
        of=0, factor=2, dims=FILTER, mask_at=8
    ),
    "torchvision._deform_conv2d_backward": dot_products(of=0, factor=2, dims=FILTER, times=4),
})  # fmt: skip


@register_flop_formula("aten.convolution_backward", "aten.convolution_backward_overrideable")
def convolution_backward(op: OpRecord) -> int:
    """``(grad, x, weight, …)``: the forward's FLOPs for each of the gradients asked for."""
    mask_at = 9 if "_overrideable" in op.name else 10  # its schema has no ``bias_sizes``
    dense = 1 if argument(op, mask_at - 3, "transposed") else 0
    wanted = mask(op, mask_at)[:2] or (True, True)  # the third is the bias, a reduction
    return 2 * prod(shape(op, dense)) * prod(shape(op, 2)[FILTER]) * sum(wanted)
