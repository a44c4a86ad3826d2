"""Operators whose elements are dot products of one length; which, and how, is in their table.

``2 · numel(out) · k`` FLOPs, however the operator lays out or broadcasts its batch dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final

from torchgauge.estimate.arguments import mask, output_shape, shape
from torchgauge.estimate.compute.registry import FlopFormula, register_table
from torchgauge.facts.trace import OpRecord

_OUTPUT = "output"
_DIMENSIONS: Final = {
    "last dimension": slice(-1, None),
    "last but one dimension": slice(-2, -1),
    "dimensions from the second on": slice(1, None),
    "first two dimensions": slice(0, 2),
    "first and last dimension": slice(0, None, 2),
}


def _dot_products(row: Mapping[str, str]) -> FlopFormula:
    """Return the formula ``times · numel(elements) · Π(dimensions of the factor)`` of a row.

    Every element is, or goes into, a dot product as long as these dimensions. With a mask that
    holds once for each gradient asked for; without one, or with an empty one, for both. Its third
    flag is the bias, a reduction.
    """
    elements, factor, times = row["elements"], int(row["factor"]), int(row["times"])
    dimensions = _DIMENSIONS[row["dimensions"]]
    dense_at = None if elements == _OUTPUT else int(elements)
    mask_at = int(row["mask"]) if row["mask"] else None

    def formula(op: OpRecord) -> int:
        dense = output_shape(op) if dense_at is None else shape(op, dense_at)
        gradients = 1 if mask_at is None else sum(mask(op, mask_at)[:2] or (True, True))
        return times * prod(dense) * prod(shape(op, factor)[dimensions]) * gradients

    dense = f"the {_OUTPUT}" if dense_at is None else f"argument {dense_at}"
    each = "" if mask_at is None else ", for each gradient asked for"
    told = f"``{times} · elements of {dense} · {row['dimensions']} of argument {factor}{each}``"
    formula.__doc__ = told
    return formula


register_table(__file__, _dot_products)
