"""Trace + candidates → the options: what is dropped, kept and made again, and what that costs.

What a checkpointed call saves is dropped when its forward ends, and made again when its backward
begins. The outputs of kept operators stay.

Assumes: the second forward stops after the last operator that makes something for the backward, as
``torch.utils.checkpoint`` does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from torchgauge.checkpoints.step.candidates import Candidate, Span
from torchgauge.checkpoints.step.levels import MOST, Level, Products, levels_of
from torchgauge.checkpoints.step.options import Again, Option
from torchgauge.checkpoints.step.saved import Kept, Times, kept_of
from torchgauge.estimate.memory.lifetimes import LiveBytes
from torchgauge.facts.trace import OpRecord, Phase, Trace

RANDOM_STATE_BYTES = 5056
"""``torch.get_rng_state()`` of the CPU, which each checkpointed call keeps in host memory."""
_FEW = 1000
"""Of more candidates only whole modules keep outputs, or the solver gets too many options."""
_LESS = 1 - 1e-9
"""Costs are sums of floats: they are equal up to rounding."""


class StepModel:
    """A traced step, and what recomputing each of its candidates means."""

    def __init__(self, trace: Trace, live: LiveBytes, *, on_cpu: bool = False) -> None:
        self.trace = trace
        self.state_bytes = RANDOM_STATE_BYTES if on_cpu else 0
        self.live = live
        self.times = Times(trace)
        self.kept = kept_of(trace, self.times)
        self._by_call: defaultdict[int, list[Kept]] = defaultdict(list)
        for block in self.kept:
            self._by_call[block.call].append(block)
        self._backward: defaultdict[int, list[int]] = defaultdict(list)
        for op in trace.ops:
            if op.phase is Phase.BACKWARD:
                self._backward[op.call].append(op.index)

    def options(
        self, candidates: Sequence[Candidate], cost: Callable[[OpRecord], tuple[float, int]]
    ) -> list[Option]:
        """Return the candidates that drop something, with what each costs.

        ``cost`` returns what an operator costs, in what is to be least and in FLOPs.
        """
        each = [cost(op) for op in self.trace.ops]
        products = Products.of(self.trace, self.kept, each)
        sums = _Sums(each)
        found: list[Option] = []
        levels: list[Option] = []
        is_small = len(candidates) <= _FEW
        for candidate in candidates:
            plain = self._option(candidate, sums)
            if plain is None:
                continue
            found.append(plain)
            most = MOST
            if candidate.place.is_stretch:
                most = MOST // 2 if is_small else 0
            ends = [item.end_op for item in plain.again]
            for level in levels_of(products, candidate.spans, ends, most) if most else ():
                option = self._option(candidate, sums, products, level)
                if option is not None and 0 < option.nbytes < plain.nbytes:
                    levels.append(option)
        return [*found, *_different(found, levels)]

    def _option(
        self,
        candidate: Candidate,
        sums: _Sums,
        products: Products | None = None,
        level: Level | None = None,
    ) -> Option | None:
        """Return what recomputing a candidate means; ``None`` where it is of no use.

        With a level, its operators keep their outputs.
        """
        again: list[Again] = []
        cost, flops = 0.0, 0
        blocks: set[int] = set()
        for row, span in enumerate(candidate.spans):
            ops = level.ops[row] if level is not None else ()
            kept = {b.storage: b for op in ops for b in products.blocks[op]} if products else {}
            item = self._again(span, kept)
            if item is None:
                return None
            again.append(item)
            blocks |= kept.keys()
            more, also = sums.between(span.first_op, item.end_op)
            less = [sums.between(op, op + 1) for op in ops]
            cost += more - sum(price for price, _ in less)
            flops += also - sum(count for _, count in less)
        return Option(
            candidate=candidate,
            again=tuple(again),
            cost=cost,
            flops=flops,
            kept=level.kept if level is not None else (),
            blocks=frozenset(blocks),
        )

    def _again(self, span: Span, kept: Mapping[int, Kept]) -> Again | None:
        """Return what a span drops and makes again; ``None`` where there is nothing.

        ``kept`` are the blocks that are kept, by storage. ``None`` too where one of them is needed
        by what is not recomputed: how long it lives is then not known here.
        """
        calls = range(span.first_call, span.end_call)
        backward = [op for call in calls for op in self._backward.get(call, ())]
        if not backward:
            return None
        made = [block for call in calls for block in self._by_call.get(call, ())]
        dropped = []
        end_op = span.first_op
        for block in made:
            inside = [time for call, time in block.holders if span.holds(call)]
            if inside:
                end_op = max(end_op, block.op + 1)
                if block.storage not in kept:
                    dropped.append((block, max(inside)))
        if not dropped:
            return None
        start = self.times.before(min(backward))
        return Again(
            dropped=tuple(dropped),
            end_op=end_op,
            begin=self.times.before(span.first_op),
            start=start,
            end=self.times.after(max(backward)),
            peak_bytes=self._own_peak(span, end_op, kept),
            held=tuple(block for block in kept.values() if block.death <= start),
        )

    def _own_peak(self, span: Span, end_op: int, kept: Mapping[int, Kept]) -> int:
        """Return the most bytes that a span's forward has of its own at any time."""
        first, last = self.times.before(span.first_op) + 1, self.times.after(end_op - 1)
        change = [0] * (last - first + 1)
        for call in range(span.first_call, span.end_call):
            for block in self._by_call.get(call, ()):
                if block.birth < last and block.storage not in kept:
                    change[max(block.birth - first, 0)] += block.nbytes
                    change[min(block.death, last) - first] -= block.nbytes
        peak = total = 0
        for index, step in enumerate(change[:-1]):
            total += step
            peak = max(peak, total + self.live.workspaces.get(first + index, 0))
        return peak


class _Sums:
    """Cost and FLOPs of stretches of operators."""

    def __init__(self, each: Sequence[tuple[float, int]]) -> None:
        self._costs = list(accumulate((cost for cost, _ in each), initial=0.0))
        self._flops = list(accumulate((flops for _, flops in each), initial=0))

    def between(self, first: int, end: int) -> tuple[float, int]:
        """Return those of the operators ``first <= op < end``."""
        return self._costs[end] - self._costs[first], self._flops[end] - self._flops[first]


def _different(plain: Sequence[Option], levels: Sequence[Option]) -> list[Option]:
    """Return the levels that drop something else than every option before, or for less work."""
    best: dict[tuple[frozenset[int], frozenset[int]], float] = {}

    def key(option: Option) -> tuple[frozenset[int], frozenset[int]]:
        dropped = frozenset(b.storage for again in option.again for b, _ in again.dropped)
        return dropped, frozenset(b.storage for again in option.again for b in again.held)

    for option in plain:
        best[key(option)] = min(best.get(key(option), option.cost), option.cost)
    found = []
    for option in sorted(levels, key=lambda option: len(option.kept)):
        known = best.get(key(option))
        if known is None or option.cost < known * _LESS:
            best[key(option)] = option.cost
            found.append(option)
    return found
