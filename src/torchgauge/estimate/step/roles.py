"""Live bytes by role over a step, at the points of its timeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from torchgauge.estimate.memory.allocator import replay
from torchgauge.estimate.memory.device import Gpu, loop_of
from torchgauge.estimate.memory.lifetimes import LiveBytes, first_event, steady_state
from torchgauge.estimate.memory.pipeline import moments, moments_of_loop
from torchgauge.estimate.step.texts import Texts
from torchgauge.facts.memory import TimelinePoint
from torchgauge.facts.pictures.step import RoleBytes
from torchgauge.facts.trace import Role, Trace

Roles = Mapping[Role, int]


def roles_on_cpu(trace: Trace, live: LiveBytes) -> list[Roles]:
    """Return the bytes by role at each point of ``estimate_memory``'s timeline."""
    sums: Counter[Role] = Counter()
    steady = steady_state(trace)
    for storage in (*steady.states, *steady.gradients):
        sums[storage.role] += storage.nbytes
    states = {storage.index for storage in steady.states}
    found: list[Roles] = []
    first = first_event(trace)
    for begin, end in _stretches(moments(trace, live, first)):
        for index in range(begin, end):
            event = trace.events[index]
            if index == steady.gradients_end:
                for storage in steady.gradients:
                    sums[storage.role] -= storage.nbytes
            storage = trace.storages[event.storage]
            if not storage.is_host and storage.index not in states:
                sums[storage.role] += -storage.nbytes if event.is_free else storage.nbytes
        workspace = live.workspaces.get(end - 1, 0) if found else 0
        found.append(sums + Counter({Role.WORKSPACE: workspace}))
    return found


def roles_on_gpu(trace: Trace, gpu: Gpu) -> list[Roles]:
    """Return the bytes by role at each point of ``estimate_on_gpu``'s timeline.

    What the caching allocator adds to the blocks is ``Role.ROUNDING``.
    """
    loop = loop_of(trace, gpu)
    result = replay(loop.events, gpu.settings, peaks_from=loop.starts[-1], record=True)
    sums: Counter[Role] = Counter()
    found: list[Roles] = []
    for begin, end in _stretches(moments_of_loop(loop, result)):
        for index in range(begin, end):
            is_free, _, nbytes = loop.events[index]
            storage = loop.storages[index]
            role = trace.storages[storage].role if storage >= 0 else Role.WORKSPACE
            sums[role] += -nbytes if is_free else nbytes
        allocated = result.allocated_after[end - 1] if end else 0
        found.append(sums + Counter({Role.ROUNDING: allocated - sums.total()}))
    return found


def role_bytes(
    timeline: Sequence[TimelinePoint], roles: Sequence[Roles], texts: Texts
) -> RoleBytes:
    """Return the bytes by role, one list for each role that there is at any point."""
    there = [role for role in Role if any(role in found for found in roles)]
    return RoleBytes(
        op=tuple(point.op for point in timeline),
        phase=tuple(texts.number(str(point.phase)) for point in timeline),
        roles={role: tuple(found.get(role, 0) for found in roles) for role in there},
    )


def _stretches(events: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the events up to each moment: those after the one before it, and it."""
    yield from pairwise([0, *(index + 1 for index in events)])
