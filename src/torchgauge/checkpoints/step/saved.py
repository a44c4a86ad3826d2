"""What the step keeps for its backward, and which calls need it until when.

Times are indices of the trace's events: at time ``t`` the events ``0 … t`` have happened.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass

from torchgauge.facts.trace import Phase, Role, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One block of memory that the forward makes."""

    storage: int
    nbytes: int
    call: int
    """The module call that made it."""
    op: int
    """The last operator of the forward that wrote it."""
    birth: int
    death: int
    """It is alive at the times ``birth <= t < death``."""
    holders: tuple[tuple[int, int], ...]
    """Calls whose backward needs it, and the time from which each does not; by that time."""
    readers: tuple[int, ...]
    """Operators of the forward that read it."""


class Times:
    """The time of an operator's end, from the events of a trace."""

    def __init__(self, trace: Trace) -> None:
        self._ops = [event.op for event in trace.events]

    def before(self, op: int) -> int:
        """Return the time just before an operator runs."""
        return bisect_left(self._ops, op) - 1

    def after(self, op: int) -> int:
        """Return the first time at which an operator has ended."""
        return bisect_right(self._ops, op)


def kept_of(trace: Trace, times: Times) -> tuple[Kept, ...]:
    """Return what the forward and the loss make, in the order in which they make it.

    What nothing in the backward releases, such as an output that the loop holds, has no holder.
    """
    births: dict[int, int] = {}
    deaths: dict[int, int] = {}
    for index, event in enumerate(trace.events):
        (deaths if event.is_free else births)[event.storage] = index
    held: defaultdict[int, dict[int, int]] = defaultdict(dict)
    readers: defaultdict[int, list[int]] = defaultdict(list)
    written: dict[int, int] = {}
    for op in trace.ops:
        if op.phase is Phase.BACKWARD:
            for read in op.reads:
                held[read][op.call] = op.index
        elif op.phase is not Phase.OPTIMIZER:
            for read in op.reads:
                readers[read].append(op.index)
            if not op.is_view:
                written.update(dict.fromkeys(op.writes, op.index))
    found = []
    for storage in trace.storages:
        is_made = 0 <= storage.op < len(trace.ops) and not storage.is_host
        if not is_made or trace.ops[storage.op].phase in (Phase.BACKWARD, Phase.OPTIMIZER):
            continue
        death = deaths.get(storage.index, len(trace.events))
        holders: tuple[tuple[int, int], ...] = ()
        if storage.role is Role.SAVED_ACTIVATION and storage.index in deaths:
            holders = _holders(trace, times, held[storage.index], death)
        found.append(
            Kept(
                storage=storage.index,
                nbytes=storage.nbytes,
                call=storage.call,
                op=written.get(storage.index, storage.op),
                birth=births[storage.index],
                death=death,
                holders=holders,
                readers=tuple(dict.fromkeys(readers[storage.index])),
            )
        )
    return tuple(found)


def _holders(
    trace: Trace, times: Times, last_reads: dict[int, int], death: int
) -> tuple[tuple[int, int], ...]:
    """Return the calls that need a block, the last until its death.

    Where the operator before the death is of another call than those that read the block, that
    call held it without reading it.
    """
    released = {call: min(times.after(op), death) for call, op in last_reads.items()}
    end = trace.events[death].op
    around = [trace.ops[op] for op in (end - 1, end) if 0 <= op < len(trace.ops)]
    if not any(op.call in released for op in around):
        if not around or around[0].phase is not Phase.BACKWARD:
            return ()
        released[around[0].call] = death
    ordered = sorted(released.items(), key=lambda item: item[1])
    if ordered:
        ordered[-1] = ordered[-1][0], death
    return tuple(ordered)
