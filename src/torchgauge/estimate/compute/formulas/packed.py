"""Operators on packed quantized weights, and libraries' own products of quantized weights.

An int8 or 4-bit product is a MAC like any other. Quantizing the input, dequantizing the weight and
requantizing the output inside of such a kernel are element-wise and are not taken apart.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.compute.formulas.arguments import output_numel, shape
from torchgauge.estimate.compute.formulas.recurrent import recurrent_flops
from torchgauge.estimate.compute.registry import ShapeNotVisibleError, register_flop_formula
from torchgauge.facts.trace import OpRecord

_DIMENSIONS = ("1d", "2d", "3d")


@register_flop_formula(
    *(f"quantized.conv{d}{kind}" for d in _DIMENSIONS for kind in ("", "_relu", "_dynamic")),
    "_quantized.conv2d",
    "_quantized.conv2d_relu",
)
def packed_convolution(op: OpRecord) -> int:
    """``(x, weight: [o, i / groups, *kernel], …)``: ``2 · numel(out) · i / groups · ∏ kernel``."""
    return 2 * output_numel(op) * prod(shape(op, 1)[1:])


@register_flop_formula("quantized.conv2d_add", "quantized.conv2d_add_relu")
def packed_convolution_with_sum(op: OpRecord) -> int:
    """``(x, addend, weight, …)``: as ``packed_convolution``."""
    return 2 * output_numel(op) * prod(shape(op, 2)[1:])


@register_flop_formula(
    *(f"quantized.conv_transpose{d}{kind}" for d in _DIMENSIONS for kind in ("", "_dynamic")),
    "_quantized.conv_transpose1d",
    "_quantized.conv_transpose2d",
)
def packed_transposed_convolution(op: OpRecord) -> int:
    """``(x, weight: [i, o / groups, *kernel], …)``: ``2 · numel(x) · o / groups · ∏ kernel``."""
    return 2 * prod(shape(op, 0)) * prod(shape(op, 1)[1:])


@register_flop_formula(
    "onednn.qconv_pointwise",
    "onednn.qconv1d_pointwise",
    "onednn.qconv2d_pointwise",
    "onednn.qconv3d_pointwise",
)
def onednn_convolution(op: OpRecord) -> int:
    """``(x, scale, zero point, weight: [o, i / groups, *kernel], …)``."""
    return 2 * output_numel(op) * prod(shape(op, 3)[1:])


@register_flop_formula(
    "quantized.quantized_lstm_cell_dynamic",
    "quantized.quantized_gru_cell_dynamic",
    "quantized.quantized_rnn_tanh_cell_dynamic",
    "quantized.quantized_rnn_relu_cell_dynamic",
)
def packed_cell(op: OpRecord) -> int:
    """``(x, hidden, w_input, w_hidden, …)``: one step."""
    return recurrent_flops(shape(op, 0), (shape(op, 2), shape(op, 3)))


@register_flop_formula("out_dtype")
def product_in_another_dtype(op: OpRecord) -> int:
    """``(aten.mm, dtype, a, b)``, as torchao's int8 products on GPUs."""
    if "mm" not in str(op.args[0]):
        raise ShapeNotVisibleError(f"{op.args[0]} is no matrix product")
    return 2 * output_numel(op) * shape(op, 2)[-1]


@register_flop_formula("bitsandbytes.gemm_4bit", "bitsandbytes.gemv_4bit")
def four_bit_product(op: OpRecord) -> int:
    """``(x: […, k], packed weight, [n, k], …)``: ``2 · numel(out) · k``."""
    return 2 * output_numel(op) * shape(op, 0)[-1]


@register_flop_formula("bitsandbytes.int8_scaled_mm", "bitsandbytes.int8_linear_matmul")
def eight_bit_product(op: OpRecord) -> int:
    """``(a: […, k], b: [n, k], …)``: ``2 · numel(out) · k``."""
    return 2 * output_numel(op) * shape(op, 0)[-1]


@register_flop_formula("bitsandbytes.int8_mixed_scaled_mm")
def eight_bit_product_with_outliers(op: OpRecord) -> int:
    """``(x, a: […, k], b: [n, k], …)``; outlier columns, whose number is data, count once."""
    return 2 * output_numel(op) * shape(op, 1)[-1]
