"""What one operator costs in arithmetic: matmul-like FLOPs and element-wise work, kept apart.

Three classes of operators are known: matmul-like ones have a formula (``formulas``),
element-wise ones a count (``elementwise``), views, copies and bookkeeping are free. An op in none
of them has no cost, rather than a cost of zero: the caller lists it as not counted.

Assumes: kernels execute the products that their shapes say; see ``formulas`` for what that
means for padding, masks and jagged batches. The element-wise part of a fused matmul-like kernel
(bias, activation, softmax, gates) is not taken apart, except the bias gradient of a convolution or
linear layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torchgauge.estimate.arguments import ShapeNotVisibleError, real_products

# Importing the package registers every built-in formula.
from torchgauge.estimate.compute import formulas as _built_in
from torchgauge.estimate.compute.elementwise import find_element_count, no_elements
from torchgauge.estimate.compute.formulas.sparse import flattened, has_sparse, sparse_formula
from torchgauge.estimate.compute.registry import (
    DependsOnValuesError,
    FlopFormula,
    find_flop_formula,
)
from torchgauge.estimate.compute.registry import register_flop_formula as register_flop_formula
from torchgauge.facts.trace import OpRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class OpCost:
    """The arithmetic of one operator."""

    flops: int
    """Matmul-like FLOPs (convolution, matrix product, attention, RNN), 2 per MAC."""
    elementwise: int
    """Element-wise, reduction, normalisation and pooling operations; see ``elementwise``."""


_FREE = OpCost(flops=0, elementwise=0)


def op_cost(op: OpRecord) -> OpCost | None:
    """Return what an operator costs, ``None`` where no rule knows.

    Example:
        >>> from torchgauge.facts.trace import Phase, TensorSpec
        >>> def floats(*shape: int) -> TensorSpec:
        ...     return TensorSpec(shape=shape, dtype="float32", device="meta", nbytes=0)
        >>> op_cost(OpRecord(index=0, name="aten.mm.default", args=(floats(2, 3), floats(3, 4)),
        ...                  kwargs=(), outputs=(floats(2, 4),), call=-1, phase=Phase.FORWARD))
        OpCost(flops=48, elementwise=0)
    """
    formula = find_flop_formula(op.name)
    counted = op
    if has_sparse(op):
        formula, counted = sparse_formula(op), flattened(op)
    if formula is None and op.is_view:
        return _FREE
    count = find_element_count(op.name)
    if formula is None:
        if count is None:
            return None
        if count is no_elements:
            return _FREE
    try:
        return OpCost(
            flops=_real_flops(formula, op) if formula else 0,
            elementwise=count(counted) if count else 0,
        )
    except ShapeNotVisibleError:
        return None


def op_costs(ops: Iterable[OpRecord]) -> Iterator[tuple[OpRecord, OpCost | None]]:
    """Yield operators with their costs; like operators, whose records share parts, share one."""
    known: dict[tuple[object, ...], OpCost | None] = {}
    for op in ops:  # a rule sees no more than these
        key = (op.name, id(op.args), id(op.kwargs), id(op.outputs), op.is_view)
        if key not in known:
            known[key] = op_cost(op)
        yield op, known[key]


def _real_flops(formula: FlopFormula, op: OpRecord) -> int:
    """Return FLOPs of real numbers; a formula that a user has registered says them itself."""
    is_own = formula.__module__.startswith(_built_in.__name__)
    return formula(op) * (real_products(op) if is_own else 1)


def not_counted_reason(op: OpRecord) -> str:
    """Return why ``op_cost`` has no answer for an op, as one clause."""
    formula = sparse_formula(op) if has_sparse(op) else find_flop_formula(op.name)
    try:
        if formula is not None:
            formula(op)
    except DependsOnValuesError as error:
        return f"it depends on values: {error}"
    except ShapeNotVisibleError as error:
        return f"a shape is not visible: {error}"
    return "no FLOP formula; add one with register_flop_formula"
