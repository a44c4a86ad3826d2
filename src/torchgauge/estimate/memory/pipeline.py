"""The stages in order: a trace → the memory of its tensors → the memory of a GPU.

Allocated is what ``torch.cuda.max_memory_allocated`` reports for the last of the steps, reserved
what ``max_memory_reserved`` reports for all of them. The device shows the CUDA context in addition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from torchgauge.estimate.memory.allocator import AllocatorResult, replay, smallest_cap
from torchgauge.estimate.memory.device import Gpu, judge, loop_of, on_the_device, under_the_limit
from torchgauge.estimate.memory.intervals import Spread, spread_of
from torchgauge.estimate.memory.lifetimes import LiveBytes, alive_after, first_event, live_bytes
from torchgauge.estimate.memory.loop import Loop
from torchgauge.estimate.memory.roles import bytes_by_role, largest_alive, saved_activations, where
from torchgauge.facts.fit import Verdict
from torchgauge.facts.memory import MemoryEstimate, TimelinePoint
from torchgauge.facts.trace import Phase, Role, Trace

# ------------------------------------------------------------------ tensors, on any device


def estimate_memory(trace: Trace, live: LiveBytes | None = None) -> MemoryEstimate:
    """Return totals per role, the peak with what is alive at it, and the timeline."""
    live = live or live_bytes(trace)
    sums = bytes_by_role(trace.storages)
    first = first_event(trace)
    candidates = range(max(first - 1, 0), len(live.after))
    peak = max(candidates, key=live.highest, default=-1)  # the earliest of equals
    phase, module, op_name = where(trace, trace.events[peak].op if peak >= 0 else -1)
    alive = alive_after(trace, peak)
    at_peak = bytes_by_role(alive)
    at_peak[Role.WORKSPACE] += live.workspaces.get(peak, 0)
    start, *later = moments(trace, live, first)
    before = live.after[start] if start >= 0 else live.before
    changes = ((trace.events[index].op, live.highest(index)) for index in later)
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
        at_peak=_present(at_peak),
        timeline=_timeline(trace, before, changes),
        alive_at_peak=largest_alive(trace, [storage.index for storage in alive]),
    )


def _timeline(
    trace: Trace, before: int, changes: Iterable[tuple[int, int]]
) -> tuple[TimelinePoint, ...]:
    """Return the live bytes before the step and after each op that changed them.

    An op that failed belongs to the phase before.
    """
    points = [TimelinePoint(op=-1, phase=Phase.FORWARD, live_bytes=before)]
    for op, nbytes in changes:
        phase = trace.ops[op].phase if 0 <= op < len(trace.ops) else points[-1].phase
        points.append(TimelinePoint(op=op, phase=phase, live_bytes=nbytes))
    return tuple(points)


def moments(trace: Trace, live: LiveBytes, first: int) -> Iterator[int]:
    """Yield the events of the timeline's points: the last before the step, then of each op."""
    yield first - 1
    high = live.after[first - 1] if first else live.before
    events, count = trace.events, len(trace.events)
    for index in range(first, count):
        if index + 1 < count and events[index + 1].op == events[index].op:
            continue
        if live.highest(index) != high:
            high = live.highest(index)
            yield index


def _present(roles: dict[Role, int]) -> dict[Role, int]:
    return {role: nbytes for role, nbytes in roles.items() if nbytes}


# ------------------------------------------------------------------ allocator and GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """What a step takes of a GPU at its peak."""

    loop: Loop
    free_run: AllocatorResult
    """Without a limit, recorded from event to event."""
    event: int
    """Of the loop, with most allocated."""
    allocated_bytes: int
    reserved_bytes: int
    """Under the device's limit where it runs there."""
    spread: Spread
    fits: bool
    verdict: Verdict


def peak_on_gpu(trace: Trace, gpu: Gpu, steps: int | None = None) -> Peak:
    """Return the peak of a step on a GPU; see ``estimate_on_gpu``."""
    loop = loop_of(trace, gpu, steps)
    last = loop.starts[-1]
    free_run = replay(loop.events, gpu.settings, peaks_from=last, record=True)
    allocated = free_run.allocated_after
    peak = max(range(last, len(allocated)), key=allocated.__getitem__)
    capped = under_the_limit(loop, gpu, free_run)
    free = max(free_run.reserved_after, default=0)
    spread = spread_of(trace, gpu.platform, free)
    fits, verdict = judge(loop, gpu, spread, allocated[peak], free)
    return Peak(
        loop=loop,
        free_run=free_run,
        event=peak,
        allocated_bytes=allocated[peak],
        reserved_bytes=capped.peak_reserved_bytes if capped.fits else free_run.peak_reserved_bytes,
        spread=spread,
        fits=fits,
        verdict=verdict,
    )


def estimate_on_gpu(
    trace: Trace, gpu: Gpu, tensors: MemoryEstimate, *, steps: int | None = None
) -> MemoryEstimate:
    """Return the memory of a step on a GPU; ``tensors`` is what its tensors take.

    ``steps`` says how often it is repeated where that is not what a training loop does.

    Assumes: nothing else uses the device than what the scenario says, and one stream is used.
    """
    peak = peak_on_gpu(trace, gpu, steps)
    loop, spread, reserved = peak.loop, peak.spread, peak.reserved_bytes
    at_peak, alive = alive_at(trace, loop, peak.event, peak.allocated_bytes)
    minimum = smallest_cap(loop.events, gpu.settings)
    after = peak.free_run.allocated_after
    start, *later = moments_of_loop(loop, peak.free_run)
    changes = ((loop.origins[index], after[index]) for index in later)
    phase, module, op = where(trace, loop.origins[peak.event])
    return replace(
        tensors,
        peak_allocated_bytes=peak.allocated_bytes,
        peak_phase=phase,
        peak_module=module,
        peak_op=op,
        at_peak=at_peak,
        timeline=_timeline(trace, after[start] if start >= 0 else 0, changes),
        alive_at_peak=largest_alive(trace, alive),
        peak_reserved_bytes=reserved,
        context_bytes=gpu.context_bytes,
        device_bytes=reserved + gpu.context_bytes,
        minimum_bytes=minimum,
        capacity_bytes=gpu.usable_bytes,
        fits=None if gpu.usable_bytes is None else peak.fits,
        verdict=None if gpu.usable_bytes is None else peak.verdict,
        intervals={
            "peak_allocated_bytes": spread.around(peak.allocated_bytes),
            "peak_reserved_bytes": spread.around(reserved),
            "context_bytes": gpu.contexts,
            "device_bytes": on_the_device(spread.around(reserved), gpu.contexts),
            "minimum_bytes": spread.around(minimum),
        },
    )


def alive_at(
    trace: Trace, loop: Loop, event: int, allocated: int
) -> tuple[dict[Role, int], list[int]]:
    """Return the bytes alive per role, and the storages.

    The bytes sum to what is allocated, with the rounding.
    """
    alive = loop.alive(event)
    roles = dict.fromkeys(Role, 0)
    for storage, nbytes, _ in alive:
        roles[trace.storages[storage].role if storage >= 0 else Role.WORKSPACE] += nbytes
    roles[Role.ROUNDING] = allocated - sum(roles.values())
    return _present(roles), [storage for storage, *_ in alive if storage >= 0]


def moments_of_loop(loop: Loop, result: AllocatorResult) -> list[int]:
    """Return the events of the timeline's points.

    That is the last before the step, then of each op the one after which most is allocated.
    """
    start, after = loop.starts[-1], result.allocated_after
    found = [start - 1]
    ops, high = [-1], after[start - 1] if start else 0
    for index in range(start, len(loop.events)):
        op, live = loop.origins[index], after[index]
        if ops[-1] == op:
            if live > high:
                found[-1], high = index, live
        elif live != high:
            found.append(index)
            ops.append(op)
            high = live
    return found
