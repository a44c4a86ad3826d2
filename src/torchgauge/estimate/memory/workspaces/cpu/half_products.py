"""Scratch memory of half-precision products of matrices on the CPU, which oneDNN computes.

Source: ``mkldnn_matmul`` and ``use_mkldnn_matmul`` in PyTorch's
``aten/src/ATen/native/mkldnn/Matmul.cpp`` (2.6–2.13).
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.onednn.products import scratch_bytes
from torchgauge.estimate.memory.workspaces.onednn.strips import Product
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec


def half_product(op: OpRecord, first: int) -> tuple[int, ...]:
    """Contiguous copies of operands in an order of their own, and oneDNN's scratchpad.

    The operands ``[(batch,) rows, depth]`` and ``[(batch,) depth, columns]`` are the arguments from
    ``first`` on.
    """
    left, right = op.args[first], op.args[first + 1]
    assert isinstance(left, TensorSpec) and isinstance(right, TensorSpec)
    layouts = op.layouts[first : first + 2]
    if len(layouts) < 2 or len(left.shape) < 2 or len(right.shape) < 2:
        return ()
    if not left.numel or not right.numel or left.dtype != right.dtype:
        return ()
    *batch, rows, depth = left.shape
    product = Product(
        batch=batch[0] if batch else 1,
        rows=rows,
        depth=depth,
        columns=right.shape[-1],
        is_left_transposed=Layout.TRANSPOSED in layouts[0] and rows > 1,
        is_right_transposed=Layout.TRANSPOSED in layouts[1],
    )
    scratch = scratch_bytes(product, left.dtype)
    if not scratch:
        return ()
    copies = (
        0 if layout & (Layout.CONTIGUOUS | Layout.TRANSPOSED) else operand.nbytes
        for operand, layout in zip((left, right), layouts, strict=True)
    )
    return *copies, scratch
