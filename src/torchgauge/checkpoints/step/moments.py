"""When the memory of a step is looked at: few moments, those at which a plan may reach its peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchgauge.checkpoints.step.saved import Kept
from torchgauge.estimate.memory.lifetimes import LiveBytes, first_event
from torchgauge.facts.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One time, and the bytes that are alive then in the step as it is."""

    time: int
    live_bytes: int


def moments_of(trace: Trace, live: LiveBytes, kept: Sequence[Kept]) -> tuple[Moment, ...]:
    """Return the moments in order: of each stretch of operators of one call at most two.

    These are when most is alive, and when most is alive of what no plan can drop.
    """
    droppable = _droppable(trace, kept)
    found: set[int] = set()
    best = leanest = -1
    before: tuple[object, int] | None = None
    for index in range(first_event(trace), len(trace.events)):
        op = trace.events[index].op
        record = trace.ops[min(op, len(trace.ops) - 1)]
        stretch = record.phase, record.call
        if stretch != before:
            found |= {best, leanest}
            best = leanest = index
            before = stretch
        high = live.highest(index)
        if high > live.highest(best):
            best = index
        if high - droppable[index] > live.highest(leanest) - droppable[leanest]:
            leanest = index
    found |= {best, leanest}
    return tuple(
        Moment(time=time, live_bytes=live.highest(time)) for time in sorted(found) if time >= 0
    )


def _droppable(trace: Trace, kept: Sequence[Kept]) -> list[int]:
    """Return how many bytes that are alive at each time a plan could drop."""
    change = [0] * (len(trace.events) + 1)
    for block in kept:
        if block.holders:
            change[block.birth] += block.nbytes
            change[block.death] -= block.nbytes
    total, sums = 0, []
    for step in change:
        total += step
        sums.append(total)
    return sums
