"""Copies that matrix products make of operands in an order that BLAS does not take.

Source: ``prepare_matrix_for_cublas`` and ``prepare_batch_matrix_for_cublas`` in PyTorch's
``aten/src/ATen/native/cuda/Blas.cpp`` (2.6–2.13).
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec


def copied(op: OpRecord, platform: Platform, first: int) -> tuple[int, ...]:
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


def copied_unless_empty(op: OpRecord, platform: Platform, first: int) -> tuple[int, ...]:
    """The copies of a product's operands; a product of no elements makes none."""
    return copied(op, platform, first) if op.outputs[0].numel > 0 else ()
