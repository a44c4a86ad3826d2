"""Matrix products in no row of ``dot_products.csv``: lists, groups, contractions, distances."""

from __future__ import annotations

from math import prod

from torchgauge.estimate.arguments import argument, integer, integers, output_numel, shape, shapes
from torchgauge.estimate.compute.formulas.contraction import einsum_macs, trilinear_macs
from torchgauge.estimate.compute.registry import ShapeNotVisibleError, register_flop_formula
from torchgauge.facts.trace import OpRecord

_MATMUL_ROWS = 25
"""``cdist`` multiplies matrices when either side has more rows (ATen ``Distance.cpp``)."""


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


@register_flop_formula("aten._euclidean_dist")
def euclidean_distance(op: OpRecord) -> int:
    """``x: […, p, m]``, ``y: […, r, m]``: ``2 · numel(out) · (m + 2)``.

    ``‖x‖² − 2 x·y + ‖y‖²`` runs as one product of the rows extended by the norm and a one.
    """
    return 2 * output_numel(op) * (shape(op, 0)[-1] + 2)


@register_flop_formula("aten.cdist", "aten._cdist_forward")
def pairwise_distance(op: OpRecord) -> int:
    """As ``_euclidean_dist`` where torch chooses it, otherwise no product at all."""
    return euclidean_distance(op) if uses_matmul(op) else 0


def uses_matmul(op: OpRecord) -> bool:
    """Return whether ``cdist(x, y, p, compute_mode)`` takes the matrix product."""
    mode = argument(op, 3, "compute_mode")
    many_rows = max(shape(op, 0)[-2], shape(op, 1)[-2]) > _MATMUL_ROWS
    return argument(op, 2, "p", 2.0) == 2 and (mode == 1 or (not mode and many_rows))
