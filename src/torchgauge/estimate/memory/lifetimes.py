"""Stage 1: which storages are alive after each event of a step, and how many bytes that is.

Assumes: every storage occupies exactly its bytes (no allocator rounding), and the step is one of
many, unless the scenario asks for the first: optimizer states are alive from the start, and
gradients until ``zero_grad``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from torchgauge.estimate.memory.workspaces import Workspaces, placed_workspaces
from torchgauge.facts.scenario import ZeroGrad
from torchgauge.facts.trace import Phase, Role, StorageEvent, StorageRecord, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyState:
    """What the steps before have left on the device; the recorder sees a step without it."""

    states: tuple[StorageRecord, ...] = ()
    """The optimizer's states: alive from the start to the end."""
    gradients: tuple[StorageRecord, ...] = ()
    """Gradients of the step before."""
    gradients_end: int = 0
    """Event before which the old gradients are freed."""

    @property
    def nbytes(self) -> int:
        """Return the bytes that are alive before the step."""
        return sum(storage.nbytes for storage in (*self.states, *self.gradients))


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBytes:
    """Live bytes of a trace, event by event."""

    before: int
    """Bytes alive before the first event: what the steps before have left."""
    after: tuple[int, ...]
    """Bytes alive after each event."""
    workspaces: Mapping[int, int]
    """Bytes that a kernel takes for itself just after an event (-1: before the first)."""
    workspace_events: tuple[int, ...] = ()
    """The events of ``workspaces``, in order."""

    def highest(self, event: int) -> int:
        """Return the most bytes alive from after an event to before the next one."""
        base = self.after[event] if event >= 0 else self.before
        return base + self.workspaces.get(event, 0)

    def peak_between(self, first: int, end: int) -> int:
        """Return the most bytes alive from just before event ``first`` to before event ``end``."""
        peak = max((self.highest(first - 1), *self.after[first:end]))
        ordered = self.workspace_events
        start = bisect_left(ordered, first)
        inside = ordered[start : bisect_left(ordered, end, start)]
        return max((peak, *map(self.highest, inside))) if inside else peak


def live_bytes(trace: Trace, workspaces: Workspaces | None = None) -> LiveBytes:
    """Return the bytes alive after each storage event, and what kernels take in between."""
    steady = steady_state(trace)
    running = accumulate(_changes(trace, steady), initial=steady.nbytes)
    next(running)
    placed = placed_workspaces(trace, workspaces)
    return LiveBytes(
        before=steady.nbytes,
        after=tuple(running),
        workspaces={
            event - 1: max(sum(sizes) for _, sizes in kernels) for event, kernels in placed.items()
        },
        workspace_events=tuple(sorted(event - 1 for event in placed)),
    )


def steady_state(trace: Trace) -> SteadyState:
    """Return what is alive before the step; before the very first step there is nothing."""
    if trace.scenario.first_step:
        return SteadyState()
    on_device = [storage for storage in trace.storages if not storage.is_host]
    states = tuple(storage for storage in on_device if storage.role is Role.OPTIMIZER_STATE)
    if trace.scenario.zero_grad is not ZeroGrad.BEFORE_BACKWARD:
        return SteadyState(states=states)  # kept gradients are in the trace, others are gone
    freed = {event.storage for event in trace.events if event.is_free}
    gradients = tuple(s for s in on_device if s.role is Role.GRADIENT and s.index not in freed)
    ends = dict(reversed(trace.phase_ends))  # of the first micro-batch
    end = ends.get(Phase.LOSS, len(trace.events))
    return SteadyState(states=states, gradients=gradients, gradients_end=end)


def first_event(trace: Trace) -> int:
    """Return the number of events that only note what existed before the step."""
    events = enumerate(trace.events)
    return next((index for index, event in events if event.op >= 0), len(trace.events))


def still_alive(events: Iterable[StorageEvent]) -> list[int]:
    """Return the storages that events made and did not free, in the order in which they came."""
    alive: dict[int, None] = {}
    for event in events:
        if event.is_free:
            alive.pop(event.storage, None)
        else:
            alive[event.storage] = None
    return list(alive)


def peak_bytes(trace: Trace, live: LiveBytes) -> int:
    """Return the most bytes that are alive at once from the start of the step on."""
    start = max(first_event(trace), 1)
    return live.peak_between(start, len(live.after)) if live.after else live.before


def alive_after(trace: Trace, event: int) -> list[StorageRecord]:
    """Return the storages on the device that are alive after an event."""
    steady = steady_state(trace)
    states = {storage.index for storage in steady.states}
    made = [trace.storages[index] for index in still_alive(trace.events[: event + 1])]
    old = steady.states if event >= steady.gradients_end else (*steady.states, *steady.gradients)
    return [*(s for s in made if not s.is_host and s.index not in states), *old]


def _changes(trace: Trace, steady: SteadyState) -> list[int]:
    """Return by how many bytes each event changes what is alive."""
    sizes = [0 if storage.is_host else storage.nbytes for storage in trace.storages]
    for storage in steady.states:
        sizes[storage.index] = 0
    changes = [
        -sizes[event.storage] if event.is_free else sizes[event.storage] for event in trace.events
    ]
    if steady.gradients_end < len(changes):
        changes[steady.gradients_end] -= sum(storage.nbytes for storage in steady.gradients)
    return changes
