"""Options → the linear program of what each choice does to the memory of the step.

The inputs of a checkpointed call stay until its backward ends. What other calls read stays as long
as they need.

Assumes: a call holds exactly those blocks that its backward reads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torchgauge.checkpoints.program import MomentRow, Program, Row, Terms
from torchgauge.checkpoints.step.model import StepModel
from torchgauge.checkpoints.step.moments import Moment, moments_of
from torchgauge.checkpoints.step.options import Option
from torchgauge.checkpoints.step.saved import Kept

_CONSTANT = -1
"""Stands among columns for a number that no choice changes."""


def program_of(model: StepModel, options: Sequence[Option]) -> Program:
    """Return the program that chooses among options."""
    return _Builder(model, options).build()


@dataclass(slots=True)
class _Builder:
    model: StepModel
    options: Sequence[Option]
    moments: tuple[Moment, ...] = ()
    columns: int = 0
    needs: list[tuple[int, float, Terms]] = field(default_factory=list)
    changes: defaultdict[int, Terms] = field(default_factory=lambda: defaultdict(dict))
    """By moment: what is added to the running sum since the moment before."""
    covers: dict[int, frozenset[int]] = field(default_factory=dict)
    """By module call: the options that it is part of."""
    keepers: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    """By storage: the options that keep it, although they recompute the call that made it."""

    def build(self) -> Program:
        model, options = self.model, self.options
        starts = {item.start for option in options for item in option.again}
        again = [Moment(time=time, live_bytes=model.live.after[time]) for time in sorted(starts)]
        plain = moments_of(model.trace, model.live, model.kept)
        self.moments = tuple(sorted((*again, *plain), key=lambda moment: moment.time))
        self.columns = len(options)
        self._cover()
        for block in model.kept:
            self._block(block, list(self._inputs(block)))
        copies = self._copies()
        rows, sums = self._rows(copies)
        return Program(
            choices=len(options),
            costs=tuple(option.cost for option in options),
            columns=self.columns,
            needs=tuple(self.needs),
            sums=sums,
            rules=tuple(self._rules()),
            moments=rows,
        )

    # ------------------------------------------------------------------ what excludes what

    def _cover(self) -> None:
        found: defaultdict[int, set[int]] = defaultdict(set)
        for number, option in enumerate(self.options):
            for span in option.candidate.spans:
                for call in range(span.first_call, span.end_call):
                    found[call].add(number)
            for storage in option.blocks:
                self.keepers[storage].add(number)
        self.covers = {call: frozenset(numbers) for call, numbers in found.items()}

    def _rules(self) -> Iterator[Row]:
        """Yield that of the options around one call at most one is chosen."""
        parents = {call.parent for call in self.model.trace.calls}
        groups = {
            group: None
            for call, group in self.covers.items()
            if call not in parents and len(group) > 1
        }
        for group in groups:
            yield Row(terms=dict.fromkeys(sorted(group), 1.0), upper=1.0)

    # ------------------------------------------------------------------ first copies

    def _inputs(self, block: Kept) -> Iterator[tuple[int, int]]:
        """Yield the options that a block is an input of, and when each lets it go."""
        own = self.covers.get(block.call, frozenset())
        ops = self.model.trace.ops
        found: dict[int, int] = {}
        for op in block.readers:
            call = ops[op].call
            for number in self.covers.get(call, frozenset()) - own:
                option = self.options[number]
                for span, again in zip(option.candidate.spans, option.again, strict=True):
                    if span.holds(call):
                        found[number] = max(found.get(number, 0), again.end)
        yield from found.items()

    def _block(self, block: Kept, inputs: list[tuple[int, int]]) -> None:
        """Add a block's first copy: how long each choice keeps it."""
        if not block.holders and (not inputs or block.death >= len(self.model.trace.events)):
            return
        around = self.covers.get(block.call, frozenset()) - self.keepers.get(block.storage, set())
        levels: defaultdict[int, list[tuple[float, Terms]]] = defaultdict(list)
        pinned = -1  # until then it is kept by something that no choice covers
        for call, time in block.holders:
            chosen = around & self.covers.get(call, frozenset())
            if not chosen:
                pinned = max(pinned, time)
            else:
                levels[self._at(time)].append((1.0, dict.fromkeys(sorted(chosen), -1.0)))
        if not block.holders:
            pinned = block.death
        for number, time in inputs:
            if time > pinned:
                levels[self._at(time)].append((0.0, {number: 1.0}))
        start = self._at(max(pinned, block.birth))
        ends = sorted(level for level in levels if level > start)
        self._add(start, ends, self._at(block.death), levels, block.nbytes)

    def _at(self, time: int) -> int:
        """Return the number of the first moment at or after a time."""
        return bisect_left(self.moments, time, key=lambda moment: moment.time)

    def _add(
        self,
        start: int,
        ends: list[int],
        death: int,
        levels: dict[int, list[tuple[float, Terms]]],
        nbytes: int,
    ) -> None:
        """Add ``nbytes`` times (is kept − is alive in the step as it is) to the running sums.

        Up to ``start`` it is kept for sure. Each of ``ends`` is the moment from which the needs of
        that level are no more.
        """
        if len(ends) == 1 and len(levels[ends[0]]) == 1 and ends[0] == death:
            ((_, terms),) = levels[ends[0]]
            for column, factor in terms.items():  # kept unless it is recomputed
                self._change(start, column, factor * nbytes)
                self._change(death, column, -factor * nbytes)
            return
        for end in reversed(ends):
            column = self._column(levels[end], following=end != ends[-1])
            begin = max([level for level in (start, *ends) if level < end])
            self._change(begin, column, nbytes)
            self._change(end, column, -nbytes)
        if start < death:
            self._change(start, _CONSTANT, -nbytes)
            self._change(death, _CONSTANT, nbytes)

    def _column(self, needs: list[tuple[float, Terms]], *, following: bool) -> int:
        column = self.columns
        self.columns += 1
        for constant, terms in needs:
            self.needs.append((column, constant, terms))
        if following:  # what is needed later is needed now
            self.needs.append((column, 0.0, {column - 1: 1.0}))
        return column

    def _change(self, moment: int, column: int, nbytes: float) -> None:
        terms = self.changes[moment]
        terms[column] = terms.get(column, 0.0) + nbytes

    # ------------------------------------------------------------------ moments

    def _rows(
        self, copies: Mapping[int, Terms]
    ) -> tuple[tuple[MomentRow, ...], tuple[tuple[int, int, Terms], ...]]:
        rows: list[MomentRow] = []
        sums: list[tuple[int, int, Terms]] = []
        before, constant = -1, 0.0
        for number, moment in enumerate(self.moments):
            terms = {c: v for c, v in self.changes.get(number, {}).items() if v}
            constant += terms.pop(_CONSTANT, 0.0)
            if terms:
                sums.append((self.columns, before, terms))
                before = self.columns
                self.columns += 1
            row = dict(copies.get(number, {}))
            if before >= 0:
                row[before] = 1.0
            rows.append(MomentRow(live_bytes=round(moment.live_bytes + constant), terms=row))
        return tuple(rows), tuple(sums)

    def _copies(self) -> dict[int, Terms]:
        """Return by moment what the second copies of each option take.

        While the forward runs again, the state of the random numbers is kept once more.
        """
        found: defaultdict[int, Terms] = defaultdict(dict)
        state = self.model.state_bytes
        for number, option in enumerate(self.options):
            for again in option.again:
                first = self._at(again.start)
                ends = sorted(((self._at(time), block.nbytes) for block, time in again.dropped))
                left = again.nbytes
                peak = again.peak_bytes + state
                found[first][number] = found[first].get(number, 0.0) + peak
                if state:
                    self._change(self._at(again.begin + 1), number, state)
                    self._change(self._at(again.end), number, -state)
                for block in again.held:
                    self._change(self._at(block.death), number, block.nbytes)
                    self._change(first + 1, number, -block.nbytes)
                for moment in range(first + 1, ends[-1][0]):
                    while ends and ends[0][0] <= moment:
                        left -= ends.pop(0)[1]
                    terms = found[moment]
                    terms[number] = terms.get(number, 0.0) + left
        return found
