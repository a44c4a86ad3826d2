"""Pairwise distances that run as a matrix product."""

from __future__ import annotations

from torchgauge.estimate.arguments import argument, output_numel, shape
from torchgauge.estimate.compute.registry import register_flop_formula
from torchgauge.facts.trace import OpRecord

_MATMUL_ROWS = 25
"""``cdist`` multiplies matrices when either side has more rows (ATen ``Distance.cpp``)."""


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
