"""Bytes of tensors over a step, from storage lifetimes.

Assumes: every storage occupies exactly its bytes (no allocator rounding), and the step is one of
many, unless the scenario asks for the first: optimizer states are alive from the start, and
gradients until ``zero_grad`` (``carried.py``). What kernels take for themselves comes from
``workspaces``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from torchgauge.estimate.memory.alive import largest_alive
from torchgauge.estimate.memory.steady_state import Carried, carried_over
from torchgauge.estimate.memory.steps import Workspaces, placed_workspaces
from torchgauge.facts.memory import MemoryEstimate, TimelinePoint
from torchgauge.facts.trace import Phase, Role, StorageRecord, Trace


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
    carried = carried_over(trace)
    changes = list(_changes(trace, carried))
    running = accumulate(changes, initial=carried.nbytes)
    next(running)
    placed = placed_workspaces(trace, workspaces)
    return LiveBytes(
        before=carried.nbytes,
        after=tuple(running),
        workspaces={
            event - 1: max(sum(sizes) for _, sizes in kernels) for event, kernels in placed.items()
        },
        workspace_events=tuple(sorted(event - 1 for event in placed)),
    )


def saved_activations(trace: Trace) -> tuple[StorageRecord, ...]:
    """Return what is alive when the backward starts, of the micro-batch that saves most."""
    storages = (s for s in trace.storages if not s.is_host)
    saved = [s for s in storages if s.role is Role.SAVED_ACTIVATION]
    ends = [events for phase, events in trace.phase_ends if phase is Phase.BACKWARD]
    if len(ends) < 2:
        return tuple(saved)
    born = {e.storage: index for index, e in enumerate(trace.events) if not e.is_free}
    groups: dict[int, list[StorageRecord]] = {}
    for storage in saved:
        groups.setdefault(bisect_right(ends, born[storage.index]), []).append(storage)
    return tuple(max(groups.values(), key=lambda g: sum(s.nbytes for s in g), default=[]))


def estimate_memory(trace: Trace, live: LiveBytes | None = None) -> MemoryEstimate:
    """Return totals per role, the peak with what is alive at it, and the timeline."""
    live = live or live_bytes(trace)
    sums = bytes_by_role(trace)
    first_step = _existing(trace)
    peak_event = _peak_event(live, first_step)
    phase, module, op_name = _where(trace, peak_event)
    alive = _alive_at(trace, peak_event)
    at_peak = _roles(alive)
    if peak_event in live.workspaces:
        at_peak[Role.WORKSPACE] = live.workspaces[peak_event]
    return MemoryEstimate(
        input_bytes=sums[Role.INPUT],
        parameter_bytes=sums[Role.PARAMETER],
        buffer_bytes=sums[Role.BUFFER],
        gradient_bytes=sums[Role.GRADIENT],
        optimizer_bytes=sums[Role.OPTIMIZER_STATE],
        saved_activation_bytes=sum(storage.nbytes for storage in saved_activations(trace)),
        output_bytes=sums[Role.OUTPUT],
        peak_allocated_bytes=sum(at_peak.values()),
        peak_phase=phase,
        peak_module=module,
        peak_op=op_name,
        at_peak=at_peak,
        timeline=_timeline(trace, live, first_step),
        alive_at_peak=largest_alive(trace, [storage.index for storage in alive]),
    )


def bytes_by_role(trace: Trace) -> dict[Role, int]:
    """Return the bytes of all storages of a role, those on the host left out."""
    sums = dict.fromkeys(Role, 0)
    for storage in trace.storages:
        if not storage.is_host:
            sums[storage.role] += storage.nbytes
    return sums


def _changes(trace: Trace, carried: Carried) -> Iterator[int]:
    """Yield by how many bytes each event changes what is alive."""
    standing = {storage.index for storage in carried.states}
    let_go = sum(storage.nbytes for storage in carried.gradients)
    for index, event in enumerate(trace.events):
        storage = trace.storages[event.storage]
        change = 0 if storage.is_host or storage.index in standing else storage.nbytes
        yield (-change if event.is_free else change) - (
            let_go if index == carried.gradients_end else 0
        )


def _existing(trace: Trace) -> int:
    """Return the number of events that only note what existed before the step."""
    for index, event in enumerate(trace.events):
        if event.op >= 0:
            return index
    return len(trace.events)


def _peak_event(live: LiveBytes, first: int) -> int:
    """Return the event after which most bytes are alive, the earliest of equals."""
    candidates = range(max(first - 1, 0), len(live.after))
    return max(candidates, key=live.highest, default=-1)


def _where(trace: Trace, event: int) -> tuple[Phase, str, str]:
    op = trace.events[event].op if event >= 0 else -1
    if not 0 <= op < len(trace.ops):
        return Phase.FORWARD, "", ""
    record = trace.ops[op]
    path = trace.calls[record.call].path if record.call >= 0 else ""
    return record.phase, path, record.name


def _roles(storages: Iterable[StorageRecord]) -> dict[Role, int]:
    sums = dict.fromkeys(Role, 0)
    for storage in storages:
        sums[storage.role] += storage.nbytes
    return {role: nbytes for role, nbytes in sums.items() if nbytes}


def _alive_at(trace: Trace, event: int) -> list[StorageRecord]:
    """Return the storages alive after an event, those on the host left out."""
    carried = carried_over(trace)
    standing = {storage.index for storage in carried.states}
    alive: set[int] = set()
    for change in trace.events[: event + 1]:
        if change.is_free:
            alive.discard(change.storage)
        elif not trace.storages[change.storage].is_host:
            alive.add(change.storage)
    return [*(trace.storages[index] for index in alive - standing), *carried.after(event)]


def _timeline(trace: Trace, live: LiveBytes, first: int) -> tuple[TimelinePoint, ...]:
    """Return the live bytes before the step and after each op that changed them."""
    start = live.after[first - 1] if first else live.before
    points = [TimelinePoint(op=-1, phase=Phase.FORWARD, live_bytes=start)]
    events, ops = trace.events, trace.ops
    count = len(events)
    for index in range(first, count):
        op = events[index].op
        if index + 1 < count and events[index + 1].op == op:
            continue
        high = live.highest(index)
        if high != points[-1].live_bytes:
            phase = ops[op].phase if op < len(ops) else points[-1].phase
            points.append(TimelinePoint(op=op, phase=phase, live_bytes=high))
    return tuple(points)
