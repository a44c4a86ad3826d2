"""Copies that matrix products make of operands in an order that BLAS does not take.

Source: ``prepare_matrix_for_cublas`` and ``prepare_batch_matrix_for_cublas`` in PyTorch's
``aten/src/ATen/native/cuda/Blas.cpp`` (2.6–2.13).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torchgauge.estimate.memory.workspaces.platform import Platform, Rules
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec

PRODUCTS: Final[Mapping[str, int]] = {
    "aten.mm.default": 0,
    "aten.mv.default": 0,
    "aten.addmm.default": 1,
    "aten._addmm_activation.default": 1,
    "aten.addmv.default": 1,
}
"""By operator: the position of the first of its two operands."""
BATCHED: Final[Mapping[str, int]] = {
    "aten.bmm.default": 0,
    "aten.bmm.out": 0,
    "aten.baddbmm.default": 1,
}
"""The same of products of many matrices."""


def copied(op: OpRecord, first: int) -> tuple[int, ...]:
    """Return the bytes of each of the two operands from ``first`` on that is copied.

    Those are operands that are expanded, or whose rows and columns both have gaps.
    """
    operands = op.args[first : first + 2]
    layouts = op.layouts[first : first + 2]
    if len(layouts) < len(operands):  # one of them is sparse
        return ()
    return tuple(
        0 if Layout.MATRIX in layout or len(operand.shape) < 2 else operand.nbytes
        for operand, layout in zip(operands, layouts, strict=True)
        if isinstance(operand, TensorSpec)
    )


def _on_cuda(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    if op.name in BATCHED:
        return copied(op, BATCHED[op.name])
    return copied(op, PRODUCTS[op.name]) if op.outputs[0].numel > 0 else ()


RULES: Rules = dict.fromkeys((*PRODUCTS, *BATCHED), _on_cuda)
"""Of CUDA; by operator, overload included."""
