"""Of which operators a recomputed module keeps the outputs: a few levels for each module.

An operator is worth keeping where much work is saved for few bytes. So operators are added in the
order of their cost per byte, and few points of that ladder become options.

Source of the order: the greedy order of PyTorch's ``torch.distributed._tools.sac_estimator``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchgauge.checkpoints.step.candidates import Span
from torchgauge.checkpoints.step.saved import Kept
from torchgauge.facts.choices.checkpointing import KeptOperator
from torchgauge.facts.trace import Phase, Trace
from torchgauge.trace.step.selective import can_be_kept, writes_in_place

MOST = 4
"""Levels of one module. The neighbours in a ``Sequential`` have half as many: of those there are
many stretches."""
_ALIKE = 0.99
"""Operators whose cost per byte differs by less are kept together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """The operators of a step whose outputs may be kept: those with FLOPs, in order."""

    ops: tuple[int, ...]
    blocks: dict[int, tuple[Kept, ...]]
    """By operator: the blocks of memory that hold its outputs."""
    costs: tuple[float, ...]
    """By operator of the trace."""
    names: tuple[str, ...]
    by_name: dict[str, list[int]]
    """All calls of the operators of these names in the forward, in order."""

    @classmethod
    def of(
        cls, trace: Trace, kept: Sequence[Kept], prices: Sequence[tuple[float, int]]
    ) -> Products:
        """Return those of a trace; ``prices`` are the cost and the FLOPs of each operator."""
        made: defaultdict[int, list[Kept]] = defaultdict(list)
        for block in kept:
            made[trace.storages[block.storage].op].append(block)
        names = {op.name for op, (_, flops) in zip(trace.ops, prices, strict=True) if flops}
        written = _written_again(trace)
        blocks: dict[int, tuple[Kept, ...]] = {}
        by_name: defaultdict[str, list[int]] = defaultdict(list)
        for op, (_, flops) in zip(trace.ops, prices, strict=True):
            if op.name not in names or op.phase not in (Phase.FORWARD, Phase.LOSS):
                continue
            by_name[op.name].append(op.index)
            own = tuple(made.get(op.index, ()))
            is_new = set(op.writes) == {block.storage for block in own}
            if flops and own and is_new and not written & set(op.writes) and can_be_kept(op):
                blocks[op.index] = own
        return cls(
            ops=tuple(blocks),
            blocks=blocks,
            costs=tuple(cost for cost, _ in prices),
            names=tuple(op.name for op in trace.ops),
            by_name=dict(by_name),
        )

    def within(self, first: int, end: int) -> tuple[int, ...]:
        """Return the operators ``first <= op < end`` whose outputs may be kept."""
        return self.ops[bisect_left(self.ops, first) : bisect_left(self.ops, end)]

    def number(self, op: int, span: Span) -> int:
        """Return which call of its operator this is within a span, counted from 0."""
        calls = self.by_name[self.names[op]]
        return bisect_left(calls, op) - bisect_left(calls, span.first_op)

    def calls(self, name: str, span: Span) -> int:
        """Return how many calls of a name a span has."""
        calls = self.by_name[name]
        return bisect_left(calls, span.end_op) - bisect_left(calls, span.first_op)


def _written_again(trace: Trace) -> set[int]:
    """Return the storages that an operator writes into which did not make them.

    PyTorch refuses to hand out what was written into since it was kept. A reshape
    (``_unsafe_view``) names the storage too, and writes nothing.
    """
    return {
        storage
        for op in trace.ops
        if not op.is_view
        for storage in op.writes
        if trace.storages[storage].op != op.index and writes_in_place(op.name)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What is kept of a module."""

    kept: tuple[KeptOperator, ...]
    ops: tuple[tuple[int, ...], ...]
    """In each execution of the module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rung:
    """One operator, the same of each execution."""

    ops: tuple[int, ...]
    worth: float
    """Cost per byte."""
    cost: float


def levels_of(
    products: Products, spans: Sequence[Span], ends: Sequence[int], most: int = MOST
) -> Iterator[Level]:
    """Yield at most ``most`` levels of what a module may keep, the least first.

    ``ends`` are the operators before which the second forwards end. Executions that run other
    operators than the first have no levels: calls are named by their numbers.
    """
    rungs = _rungs(products, spans, ends)
    if rungs is None:
        return
    groups: list[list[_Rung]] = []
    for rung in rungs:
        if groups and rung.worth >= groups[-1][0].worth * _ALIKE:
            groups[-1].append(rung)
        else:
            groups.append([rung])
    kept: list[_Rung] = []
    total, sum_ = sum(rung.cost for rung in rungs), 0.0
    for number, group in enumerate(groups):
        kept += group
        before, sum_ = sum_, sum_ + sum(rung.cost for rung in group)
        share = total / most
        is_last = number == len(groups) - 1
        if is_last or len(groups) <= most or int(sum_ / share) > int(before / share):
            yield _level(products, spans, kept)


def _rungs(products: Products, spans: Sequence[Span], ends: Sequence[int]) -> list[_Rung] | None:
    """Return the operators of a module, those that are most worth keeping first."""
    rows = [products.within(span.first_op, end) for span, end in zip(spans, ends, strict=True)]
    named = [[(products.names[op], products.number(op, span)) for op in row]
             for row, span in zip(rows, spans, strict=True)]  # fmt: skip
    if not rows[0] or any(row != named[0] for row in named[1:]):
        return None
    found = []
    for ops in zip(*rows, strict=True):
        cost = sum(products.costs[op] for op in ops)
        nbytes = sum(block.nbytes for op in ops for block in products.blocks[op])
        if cost > 0.0 and nbytes:
            found.append(_Rung(ops=ops, worth=cost / nbytes, cost=cost))
    return sorted(found, key=lambda rung: (-rung.worth, rung.ops)) or None


def _level(products: Products, spans: Sequence[Span], kept: Sequence[_Rung]) -> Level:
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for rung in kept:
        numbers[products.names[rung.ops[0]]].append(products.number(rung.ops[0], spans[0]))
    operators = []
    for name, calls in sorted(numbers.items()):
        is_each = all(len(calls) == products.calls(name, span) for span in spans)
        operators.append(KeptOperator.of(name, () if is_each else sorted(calls)))
    return Level(
        kept=tuple(operators),
        ops=tuple(tuple(sorted(rung.ops[row] for rung in kept)) for row in range(len(spans))),
    )
