"""Copies that matrix products make of operands in an order that BLAS does not take."""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.cpu.half_products import half_product
from torchgauge.estimate.memory.workspaces.platform import Platform, Rule
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec

_SMALL_BATCHED = 400
"""Multiplications per matrix below which the CPU multiplies batches without BLAS."""
_BLAS = ("float32", "float64", "complex64", "complex128")
"""What the CPU always gives to BLAS."""
_HALF = ("bfloat16", "float16")
"""What it gives to oneDNN."""


def _copied(op: OpRecord, first: int) -> tuple[int, ...]:
    """Return the bytes of each of the two operands from ``first`` on that is copied."""
    operands = op.args[first : first + 2]
    layouts = op.layouts[first : first + 2]
    if len(layouts) < len(operands):  # one of them is sparse
        return ()
    return tuple(
        0 if Layout.MATRIX in layout or len(operand.shape) < 2 else operand.nbytes
        for operand, layout in zip(operands, layouts, strict=True)
        if isinstance(operand, TensorSpec)
    )


def _conjugates(op: OpRecord, first: int) -> tuple[int, ...]:
    """Return the bytes of each of the two operands from ``first`` on that is a conjugate."""
    return tuple(
        operand.nbytes if isinstance(operand, TensorSpec) and Layout.CONJUGATED in layout else 0
        for operand, layout in zip(op.args[first:], op.layouts[first : first + 2], strict=False)
    )


def _product(first: int) -> Rule:
    """Operands that are expanded, or whose rows and columns both have gaps.

    Source: ``addmm_impl_cpu_`` in ``LinearAlgebra.cpp``, ``addmv`` in ``Blas.cpp`` and
    ``prepare_matrix_for_cublas`` in ``cuda/Blas.cpp`` (2.6–2.13).
    """

    def rule(op: OpRecord, platform: Platform) -> tuple[int, ...]:
        dtype = op.outputs[0].dtype
        if platform.type == "cpu" and dtype in _HALF:
            return half_product(op, first)
        is_blas = platform.type != "cpu" or dtype in _BLAS
        return _copied(op, first) if is_blas and op.outputs[0].numel > 0 else ()

    return rule


def _batched(first: int) -> Rule:
    """The same of one matrix at a time on the CPU, of all of them on CUDA.

    The CPU takes no conjugates: they are written out for all matrices, in whatever order.
    Source: ``bmm_out_or_baddbmm_`` in ``LinearAlgebra.cpp`` and
    ``prepare_batch_matrix_for_cublas`` in ``cuda/Blas.cpp`` (2.6–2.13).
    """

    def rule(op: OpRecord, platform: Platform) -> tuple[int, ...]:
        left = op.args[first]
        assert isinstance(left, TensorSpec)
        batch, rows, columns = op.outputs[0].shape
        if platform.type == "cpu" and op.outputs[0].dtype in _HALF:
            return half_product(op, first)
        if platform.type != "cpu" or batch == 0:
            return _copied(op, first)
        whole = _conjugates(op, first)
        if op.outputs[0].dtype not in _BLAS or rows * columns * left.shape[-1] < _SMALL_BATCHED:
            return whole
        apart = tuple(size // batch for size in _copied(op, first))
        return tuple(map(max, whole, apart)) if len(apart) == len(whole) else whole

    return rule


RULES: dict[str, Rule] = {
    "aten.mm.default": _product(0),
    "aten.mv.default": _product(0),
    "aten.addmm.default": _product(1),
    "aten._addmm_activation.default": _product(1),
    "aten.addmv.default": _product(1),
    "aten.bmm.default": _batched(0),
    "aten.bmm.out": _batched(0),
    "aten.baddbmm.default": _batched(1),
}
"""By operator, overload included."""
