"""Live bytes by role over a step, at the points of its timeline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from torchgauge.estimate.memory.allocator import replay
from torchgauge.estimate.memory.device import Gpu, loop_of
from torchgauge.estimate.memory.lifetimes import LiveBytes, first_event, steady_state
from torchgauge.estimate.memory.loop import Loop
from torchgauge.estimate.memory.pipeline import moments, moments_of_loop
from torchgauge.estimate.step.texts import Texts
from torchgauge.facts.memory import TimelinePoint
from torchgauge.facts.pictures.step import RoleBytes
from torchgauge.facts.trace import Role, Trace

Roles = Mapping[Role, int]


def roles_on_cpu(trace: Trace, live: LiveBytes) -> list[Roles]:
    """Return the bytes by role at each point of ``estimate_memory``'s timeline."""
    sums = _Sums()
    steady = steady_state(trace)
    for storage in (*steady.states, *steady.gradients):
        sums.add(storage.role, storage.nbytes)
    states = {storage.index for storage in steady.states}
    found: list[Roles] = []
    first = first_event(trace)
    for begin, end in _stretches(moments(trace, live, first)):
        for index in range(begin, end):
            event = trace.events[index]
            if index == steady.gradients_end:
                for storage in steady.gradients:
                    sums.add(storage.role, -storage.nbytes)
            storage = trace.storages[event.storage]
            if not storage.is_host and storage.index not in states:
                sums.add(storage.role, -storage.nbytes if event.is_free else storage.nbytes)
        workspace = live.workspaces.get(end - 1, 0) if found else 0
        found.append(sums.with_more(Role.WORKSPACE, workspace))
    return found


def roles_on_gpu(trace: Trace, gpu: Gpu) -> list[Roles]:
    """Return the bytes by role at each point of ``estimate_on_gpu``'s timeline.

    What the caching allocator adds to the blocks is ``Role.ROUNDING``.
    """
    loop = loop_of(trace, gpu)
    result = replay(loop.events, gpu.settings, peaks_from=loop.starts[-1], record=True)
    sums, alive = _Sums(), dict[int, tuple[Role, int]]()
    found: list[Roles] = []
    for begin, end in _stretches(moments_of_loop(loop, result)):
        for index in range(begin, end):
            _apply(trace, loop, index, alive, sums)
        allocated = result.allocated_after[end - 1] if end else 0
        found.append(sums.with_more(Role.ROUNDING, allocated - sums.total))
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


def _apply(
    trace: Trace, loop: Loop, index: int, alive: dict[int, tuple[Role, int]], sums: _Sums
) -> None:
    is_free, key, nbytes = loop.events[index]
    if is_free:
        role, nbytes = alive.pop(key, (Role.TEMPORARY, 0))
        sums.add(role, -nbytes)
        return
    storage = loop.storages[index]
    role = trace.storages[storage].role if storage >= 0 else Role.WORKSPACE
    alive[key] = role, nbytes
    sums.add(role, nbytes)


def _stretches(events: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the events up to each moment: those after the one before it, and it."""
    yield from pairwise([0, *(index + 1 for index in events)])


class _Sums:
    def __init__(self) -> None:
        self._bytes: defaultdict[Role, int] = defaultdict(int)
        self.total = 0

    def add(self, role: Role, nbytes: int) -> None:
        self._bytes[role] += nbytes
        self.total += nbytes

    def with_more(self, role: Role, nbytes: int) -> Roles:
        """Return what is alive by role, with so much more of one of them."""
        found = {role: nbytes for role, nbytes in self._bytes.items() if nbytes}
        if nbytes:
            found[role] = found.get(role, 0) + nbytes
        return found
