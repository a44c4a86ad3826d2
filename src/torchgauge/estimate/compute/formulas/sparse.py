"""Products with a sparse operand: what the elements that it holds are multiplied with.

The kernels go through the stored elements, each times a row or column of the other factor: one MAC
per stored element and column (Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., § 3.5).
Elements of a block format (BSR, BSC) that are stored zeros are multiplied as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torchgauge.estimate.arguments import tensors
from torchgauge.estimate.compute.registry import FlopFormula, ShapeNotVisibleError
from torchgauge.facts.trace import ArgumentValue, OpRecord, TensorSpec

_FIRST_FACTOR = {
    "mm": 0, "bmm": 0, "mv": 0, "matmul": 0, "addmm": 1, "baddbmm": 1, "addmv": 1,
    "_sparse_mm": 0, "_sparse_addmm": 1, "hspmm": 0, "sspaddmm": 1, "smm": 0,
    "_sparse_mm_reduce_impl": 0, "_sparse_sparse_matmul": 0, "sparse_sampled_addmm": 1,
}  # fmt: skip
"""By the operator's name: which argument is the left factor; the right one follows."""
_MULTIPLICATIONS = "multiplications"


def has_sparse(op: OpRecord) -> bool:
    """Return whether an operator reads or makes a sparse tensor."""
    return any(spec.stored is not None for spec in (*op.outputs, *tensors(op.args)))


def sparse_formula(op: OpRecord) -> FlopFormula | None:
    """Return the formula of an operator on sparse tensors, ``None`` where it is not a product."""
    if _name(op) == "_sparse_mm_reduce_impl_backward":
        return reduced_product_backward
    return sparse_product if _name(op) in _FIRST_FACTOR else None


def sparse_product(op: OpRecord) -> int:
    """Return ``2 · stored · columns``.

    ``sampled_addmm`` makes the elements that its first argument stores, ``k`` MACs each. Of two
    sparse factors the recorder has counted which elements meet.

    Raises:
        ShapeNotVisibleError: where both are sparse and it has not.
    """
    first = _FIRST_FACTOR[_name(op)]
    left, right, *_ = (item for item in op.args[first:] if isinstance(item, TensorSpec))
    if _name(op) == "sparse_sampled_addmm":
        return 2 * (op.outputs[0].stored or 0) * left.shape[-1]
    if left.stored is not None and right.stored is not None:
        counted = dict(op.kwargs).get(_MULTIPLICATIONS)
        if not isinstance(counted, int):
            raise ShapeNotVisibleError("which elements of two sparse tensors meet")
        return 2 * counted
    if left.stored is not None:
        return 2 * left.stored * (right.shape[-1] if len(right.shape) > 1 else 1)
    if right.stored is not None:
        return 2 * right.stored * (left.shape[-2] if len(left.shape) > 1 else 1)
    raise ShapeNotVisibleError("a product of dense tensors that is sparse")


def reduced_product_backward(op: OpRecord) -> int:
    """``(a: sparse, grad: [m, k], b: [n, k], how, chosen, mask)``: ``2 · stored · k`` each.

    For a minimum or maximum only the elements that were chosen have gradients: ``2 · m · k``.
    Source: ``SpmmReduceKernel.cpp`` in PyTorch's ``aten/src/ATen/native/cpu``.
    """
    a, grad, _, how, _, wanted = op.args
    assert isinstance(a, TensorSpec) and isinstance(grad, TensorSpec)
    m, k = grad.shape
    each = 2 * m * k if how in ("amax", "amin") else 2 * (a.stored or 0) * k
    return each * sum(map(bool, wanted)) if isinstance(wanted, tuple) else 0


def flattened(op: OpRecord) -> OpRecord:
    """Return the operator on what the sparse tensors store, to count their elements."""
    return replace(
        op,
        args=tuple(map(_flat, op.args)),
        outputs=tuple(replace(s, shape=_shape(s)) for s in op.outputs),
    )


def _name(op: OpRecord) -> str:
    return op.name.split(".")[1].rstrip("_") if "." in op.name else op.name


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    return spec.shape if spec.stored is None else (spec.stored,)


def _flat(value: ArgumentValue) -> Any:
    if isinstance(value, TensorSpec):
        return replace(value, shape=_shape(value))
    return tuple(map(_flat, value)) if isinstance(value, tuple) else value
