"""Matrix products: dense, batched, grouped, scaled, quantized, semi-structured, einsum.

Every element of a product is a dot product of length ``k``: ``2 · numel(out) · k`` FLOPs, however
the operator lays out or broadcasts its batch dimensions. ``ger``, ``outer``, ``addr`` and ``kron``
accumulate nothing; they are element-wise products, as their decompositions are. An int8 or 4-bit
product is a MAC like any other: quantizing and dequantizing inside of its kernel is element-wise.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.compute.formulas.arguments import (
    argument,
    dot_products,
    integer,
    integers,
    output_numel,
    shape,
    shapes,
)
from torchgauge.estimate.compute.formulas.contraction import einsum_macs, trilinear_macs
from torchgauge.estimate.compute.registry import (
    ShapeNotVisibleError,
    register_flop_formula,
    register_table,
)
from torchgauge.facts.trace import OpRecord

_ROWS = slice(-2, -1)

register_table({
    # ``[…, m, k] · [k, n] → […, m, n]``: ``2 · numel(out) · k``. Only the first factor and the
    # output are read, so packed weights count too.
    """
        aten.mm aten.bmm aten.mv aten.dot aten.vdot aten.inner aten.matmul aten.linalg_matmul
        aten.linalg_vecdot aten.linear aten.mkldnn_linear aten._int_mm aten._scaled_mm
        aten._scaled_mm_v2 aten._weight_int4pack_mm aten._weight_int4pack_mm_for_cpu
        aten._weight_int4pack_mm_with_scales_and_zeros aten._weight_int8pack_mm
        aten._mixed_dtypes_linear aten._dyn_quant_matmul_4bit
        aten._wrapped_quantized_linear_prepacked aten.fbgemm_linear_int8_weight
        aten.fbgemm_linear_int8_weight_fp32_activation aten.fbgemm_linear_fp16_weight
        aten.fbgemm_linear_fp16_weight_fp32_activation mkl._mkl_linear mkldnn._linear_pointwise
        onednn.linear_dynamic_fp16 onednn.linear_relu_dynamic_fp16 onednn.qlinear_pointwise
        quantized.int4mm_packed_weight_cpu quantized.linear quantized.linear_dynamic
        quantized.linear_dynamic_fp16 quantized.linear_dynamic_fp16_unpacked_weight
        quantized.linear_leaky_relu quantized.linear_relu quantized.linear_relu_dynamic
        quantized.linear_relu_dynamic_fp16 quantized.linear_tanh
        quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        quantized.linear_with_input_q_dq_qweight_dq_relu_output_fp32 quantized.matmul
        _quantized._wrapped_quantized_linear_prepacked _quantized.linear
        _quantized.linear_dynamic _quantized.wrapped_fbgemm_linear_fp16_weight
        _quantized.wrapped_quantized_linear sparse.qlinear sparse.qlinear_dynamic
        sparse.qlinear_relu sparse.qlinear_relu_dynamic bitsandbytes.gemm_4bit
        bitsandbytes.gemv_4bit bitsandbytes.int8_scaled_mm bitsandbytes.int8_linear_matmul
    """: dot_products(factor=0),
    # ``c + a · b``, ``a: […, m, k]``: the addend costs no MAC. Outlier columns of bitsandbytes'
    # 8-bit product, whose number is data, count once.
    """
        aten.addmm aten._addmm_activation aten.baddbmm aten.addmv
        bitsandbytes.int8_mixed_scaled_mm
    """: dot_products(factor=1),
    # ``c + Σ_b a[b] · d[b]``, ``a: [b, m, k]``: ``2 · b · m · n · k``
    "aten.addbmm": dot_products(factor=1, dims=slice(0, None, 2)),
    # ``x: […, k]``, ``grad: […, n]``: ``2 · numel(grad) · k`` per gradient asked for
    "aten.linear_backward aten.mkldnn_linear_backward": dot_products(of=1, factor=0, mask_at=3),
    # ``grad: […, m, n]``, ``a: […, m, k]``: the same
    "aten.matmul_backward": dot_products(of=0, factor=1, mask_at=3),
    # ``grad: […, n] · weight: [n, k]``
    "aten.mkldnn_linear_backward_input": dot_products(of=1, factor=2),
    # ``gradᵀ: [n, …] · x: […, k]``
    "aten.mkldnn_linear_backward_weights": dot_products(of=0, factor=1),
    # 2:4 sparse weight ``[n, k/2]``: half the products run, ``numel(out) · k``
    "aten._sparse_semi_structured_linear": dot_products(factor=0, times=1),
    # 2:4 sparse ``a: [m, k]`` · dense ``b: [k, n]``: half the products, ``m · n · k``. Metadata,
    # and what is added to, stand before ``b``.
    "aten._cslt_sparse_mm": dot_products(factor=1, dims=_ROWS, times=1),
    "aten._sparse_semi_structured_mm": dot_products(factor=2, dims=_ROWS, times=1),
    "aten._sparse_semi_structured_addmm": dot_products(factor=3, dims=_ROWS, times=1),
})  # fmt: skip


@register_flop_formula("out_dtype")
def product_in_another_dtype(op: OpRecord) -> int:
    """``(aten.mm, dtype, a, b)``, as torchao's int8 products on GPUs."""
    if "mm" not in str(op.args[0]):
        raise ShapeNotVisibleError(f"{op.args[0]} is not a matrix product")
    return 2 * output_numel(op) * shape(op, 2)[-1]


@register_flop_formula("aten._foreach_mm")
def foreach_product(op: OpRecord) -> int:
    """A list of ``[m, k] · [k, n]``: the sum of their ``2 · m · n · k``."""
    pairs = zip(shapes(op, 0), shapes(op, 1), strict=True)
    return sum(2 * prod(a) * b[-1] for a, b in pairs)


@register_flop_formula("inductor._mm_plus_mm")
def sum_of_two_products(op: OpRecord) -> int:
    """``a · b + c · d``: ``2 · numel(out) · (k₁ + k₂)``."""
    return 2 * output_numel(op) * (shape(op, 0)[-1] + shape(op, 2)[-1])


@register_flop_formula("aten._grouped_mm", "aten._scaled_grouped_mm", "aten._scaled_grouped_mm_v2")
def grouped_product(op: OpRecord) -> int:
    """One product per group, the group's share of one dimension given by ``offs``.

    ======================== ==================== ============ =====================
    a                        b                    out          FLOPs
    ======================== ==================== ============ =====================
    ``[Σm, k]``              ``[g, k, n]``        ``[Σm, n]``  ``2 · Σm · k · n``
    ``[g, m, k]``            ``[k, Σn]``          ``[m, Σn]``  ``2 · m · k · Σn``
    ``[m, Σk]``              ``[Σk, n]``          ``[g, m, n]`` ``2 · m · Σk · n``
    ``[g, m, k]``            ``[g, k, n]``        ``[g, m, n]`` ``2 · g · m · k · n``
    ======================== ==================== ============ =====================

    The offsets are data: rows beyond the last one count although no group computes them.
    """
    a, b = shape(op, 0), shape(op, 1)
    batch = a[0] if len(a) == len(b) == 3 else 1
    return 2 * batch * a[-2] * a[-1] * b[-1]


@register_flop_formula("aten.tensordot")
def tensordot(op: OpRecord) -> int:
    """``2 · numel(out) · Π`` of the contracted dimensions."""
    a = shape(op, 0)
    return 2 * output_numel(op) * prod(a[dim] for dim in integers(op, 2, "dims_self"))


@register_flop_formula("aten.einsum")
def einsum(op: OpRecord) -> int:
    """Pairwise contractions in the order that torch runs them; see ``einsum_macs``."""
    equation = argument(op, 0)
    path = integers(op, 2, "path")
    return 2 * einsum_macs(str(equation), shapes(op, 1), path)


@register_flop_formula("aten.bilinear")
def bilinear(op: OpRecord) -> int:
    """``x1: […, i]``, ``weight: [o, i, j]``, ``x2: […, j]``: ``2 · numel(out) · (i·j + j)``.

    As ``_trilinear`` runs it: ``x1 · weight`` over ``i``, then the result · ``x2`` over ``j``.
    """
    _, i, j = shape(op, 2)
    return 2 * output_numel(op) * (i * j + j)


@register_flop_formula("aten._trilinear")
def trilinear(op: OpRecord) -> int:
    """Two chained pairwise contractions; see ``trilinear_macs``."""
    expands = [integers(op, position) for position in (3, 4, 5)]
    factors = [shape(op, position) for position in (0, 1, 2)]
    unroll = integer(op, 7) if len(op.args) > 7 else 1
    return 2 * trilinear_macs(factors, expands, integers(op, 6), unroll)
