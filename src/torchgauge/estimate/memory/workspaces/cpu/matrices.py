"""Scratch memory of matrix products on the CPU: BLAS, and oneDNN for half precision.

Sources: ``addmm_impl_cpu_`` and ``bmm_out_or_baddbmm_`` in ``LinearAlgebra.cpp``, ``addmv`` in
``Blas.cpp``, ``mkldnn_matmul`` and ``use_mkldnn_matmul`` in ``mkldnn/Matmul.cpp``, all below
PyTorch's ``aten/src/ATen/native`` (2.6–2.13).
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.matrices import copied
from torchgauge.estimate.memory.workspaces.onednn.products import scratch_bytes
from torchgauge.estimate.memory.workspaces.onednn.strips import Product
from torchgauge.estimate.memory.workspaces.operands import FLOAT, HALF, tensor
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec

_SMALL_BATCHED = 400
"""Multiplications per matrix below which the CPU multiplies batches without BLAS."""
_BLAS = ("float32", "float64", "complex64", "complex128")
"""What the CPU always gives to BLAS."""
_REORDER = 3600
"""Bytes that oneDNN takes to bring a matrix into rows."""
_REORDERED_FROM = 4096
"""Elements from which on it takes them."""


def product(op: OpRecord, platform: Platform, first: int) -> tuple[int, ...]:
    """Copies for BLAS, or what oneDNN takes for half precision."""
    output = op.outputs[0]
    if output.dtype in HALF:
        return _half_product(op, first)
    return copied(op, platform, first) if output.dtype in _BLAS and output.numel > 0 else ()


def batched(op: OpRecord, platform: Platform, first: int) -> tuple[int, ...]:
    """One matrix at a time is copied; conjugates are written out for all matrices."""
    output = op.outputs[0]
    batch, rows, columns = output.shape
    if output.dtype in HALF:
        return _half_product(op, first)
    if batch == 0:
        return copied(op, platform, first)
    whole = _conjugates(op, first)
    if output.dtype not in _BLAS or rows * columns * tensor(op, first).shape[-1] < _SMALL_BATCHED:
        return whole
    apart = tuple(size // batch for size in copied(op, platform, first))
    return tuple(map(max, whole, apart)) if len(apart) == len(whole) else whole


def _conjugates(op: OpRecord, first: int) -> tuple[int, ...]:
    """Return the bytes of each of the two operands from ``first`` on that is a conjugate."""
    return tuple(
        operand.nbytes if isinstance(operand, TensorSpec) and Layout.CONJUGATED in layout else 0
        for operand, layout in zip(op.args[first:], op.layouts[first : first + 2], strict=False)
    )


def _half_product(op: OpRecord, first: int) -> tuple[int, ...]:
    """Contiguous copies of operands in an order of their own, and oneDNN's scratchpad.

    The operands ``[(batch,) rows, depth]`` and ``[(batch,) depth, columns]`` are the arguments from
    ``first`` on.
    """
    left, right = tensor(op, first), tensor(op, first + 1)
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


def scaled_mm(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The right operand in rows; with a scale per row both operands and the result in float32.

    Source: ``_scaled_mm_out_cpu`` in ``Blas.cpp``; the sizes are measured, PyTorch 2.13 with oneDNN
    3.12. Assumes: a server processor with AMX (Intel's since 2023); without it oneDNN takes two to
    five times as much.
    """
    left, right, scale = (tensor(op, position) for position in range(3))
    output = op.outputs[0]
    in_rows = len(op.layouts) > 1 and Layout.CONTIGUOUS in op.layouts[1]
    copied = 0 if in_rows else right.numel
    if scale.numel > 1:
        product = (right.numel + output.numel) * FLOAT + output.nbytes
        floats = left.numel * FLOAT
        return copied, floats, max(floats, 2 * right.numel * FLOAT, product)
    reorder = _REORDER if copied >= _REORDERED_FROM else 0
    return copied, max(3 * FLOAT, reorder - output.nbytes)
