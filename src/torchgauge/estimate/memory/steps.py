"""One recorded step, repeated as a training loop would: the allocations of several steps.

The recorder sees one step that finds no gradients and makes the optimizer's states. A loop runs
many: states are made once, the gradients and outputs of a step live on into the next. What a
kernel takes for itself (``workspace.py``) is allocated and freed inside its operator.

Assumes: the loop keeps the names of its batch, output and loss until the next ones are there, as
``output = model(batch)`` in a ``for`` does; batches are alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from torchgauge.facts.scenario import ZeroGrad
from torchgauge.facts.trace import OpRecord, Phase, Role, Trace

Workspaces = Callable[[OpRecord], tuple[int, ...]]
"""Bytes of the blocks that a kernel allocates for itself and frees before it returns."""
Event = tuple[bool, int, int]
"""``(is_free, key, nbytes)``; a key stands for one block."""

_FOR_GOOD = frozenset({Role.PARAMETER, Role.BUFFER, Role.OPTIMIZER_STATE})


@dataclass(slots=True, kw_only=True)
class Loop:
    """The allocations and frees of a loop, in order."""

    events: list[Event] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    """Per event: the op (of the trace) that it belongs to, -1 for what is between steps."""
    storages: list[int] = field(default_factory=list)
    """Per event: the storage of the trace, -1 for a workspace."""
    starts: list[int] = field(default_factory=list)
    """Where each step begins."""

    def add(self, is_free: bool, key: int, nbytes: int, *, op: int, storage: int) -> None:
        """Append one event."""
        self.events.append((is_free, key, nbytes))
        self.origins.append(op)
        self.storages.append(storage)


def repeat(
    trace: Trace,
    steps: int,
    workspaces: Workspaces | None = None,
    *,
    lasting: Mapping[int, int] | None = None,
) -> Loop:
    """Return what ``steps`` steps allocate and free; storages on the host are left out.

    Args:
        trace: of one step.
        steps: how many.
        workspaces: what kernels take for themselves.
        lasting: by op, bytes that it takes in the first step and keeps for good.
    """
    return _Repeater(trace, workspaces, lasting or {}).run(steps)


class _Repeater:
    def __init__(
        self,
        trace: Trace,
        workspaces: Workspaces | None,
        lasting: Mapping[int, int],
    ) -> None:
        self._trace = trace
        self._count = len(trace.storages)
        self._loop = Loop()
        self._next_workspace = -1
        self._kernels = placed_workspaces(trace, workspaces)
        self._lasting = _placed(trace, {op: (size,) for op, size in lasting.items()})
        self._first = next(
            (i for i, event in enumerate(trace.events) if event.op >= 0), len(trace.events)
        )
        self._standing = self._alive_before_the_step()
        self._ended = {e.storage for e in trace.events[self._first :] if e.is_free}
        self._left = self._left_over()
        """Storages alive at the end that the next step lets go: gradients apart from the rest."""
        self._forward_end, self._backward_start = self._boundaries()

    def run(self, steps: int) -> Loop:
        for step in range(steps):
            self._loop.starts.append(len(self._loop.events))
            self._begin(step)
            for index, event in enumerate(self._trace.events[self._first :], self._first):
                self._between(step, index)
                self._run_kernels(step, index)
                if step == 0 or not self._is_once(event.storage):
                    self._add(step, event.storage, event.op, is_free=event.is_free)
            self._between(step, len(self._trace.events))
            self._run_kernels(step, len(self._trace.events))
        return self._loop

    def _begin(self, step: int) -> None:
        """Bring in what exists before the step, or only the next batch."""
        for index in self._standing:
            if step > 0 and self._is_once(index):
                continue
            self._add(step, index, -1)
            if step > 0 and index not in self._ended:
                self._add(step - 1, index, -1, is_free=True)

    def _alive_before_the_step(self) -> list[int]:
        alive: dict[int, None] = {}
        for event in self._trace.events[: self._first]:
            if event.is_free:
                alive.pop(event.storage, None)
            else:
                alive[event.storage] = None
        return list(alive)

    def _is_once(self, index: int) -> bool:
        """Return whether a storage comes and goes at most once in the whole loop."""
        storage = self._trace.storages[index]
        return storage.role in _FOR_GOOD or (storage.op < 0 and storage.role is not Role.INPUT)

    def _between(self, step: int, index: int) -> None:
        """Let go, before event ``index``, of what the step before has left."""
        if step == 0:
            return
        if index == self._zero_grad_at:
            for storage in self._left[True]:
                self._add(step - 1, storage, -1, is_free=True)
        if index == self._forward_end:
            for storage in self._left[False]:
                self._add(step - 1, storage, -1, is_free=True)

    def _run_kernels(self, step: int, index: int) -> None:
        if step == 0:
            for op, sizes in self._lasting.get(index, ()):
                self._take(op, sizes)
        for op, sizes in self._kernels.get(index, ()):
            for key in self._take(op, sizes):
                self._loop.add(True, key, 0, op=op, storage=-1)

    def _take(self, op: int, sizes: tuple[int, ...]) -> range:
        """Allocate blocks that no storage of the trace stands for; return their keys."""
        keys = range(self._next_workspace, self._next_workspace - len(sizes), -1)
        self._next_workspace -= len(sizes)
        for key, size in zip(keys, sizes, strict=True):
            self._loop.add(False, key, size, op=op, storage=-1)
        return keys

    def _add(self, step: int, index: int, op: int, *, is_free: bool = False) -> None:
        storage = self._trace.storages[index]
        if storage.is_host:
            return
        key = index if self._is_once(index) else (step + 1) * self._count + index
        self._loop.add(is_free, key, storage.nbytes, op=op, storage=index)

    @property
    def _zero_grad_at(self) -> int:
        if self._trace.scenario.zero_grad is ZeroGrad.BEFORE_BACKWARD:
            return self._backward_start
        return self._first

    def _left_over(self) -> dict[bool, list[int]]:
        """Return the storages made in the step and never freed: gradients, and others."""
        alive: dict[int, None] = {}
        for event in self._trace.events[self._first :]:
            if event.is_free:
                alive.pop(event.storage, None)
            else:
                alive[event.storage] = None
        left: dict[bool, list[int]] = {True: [], False: []}
        for index in alive:
            if not self._is_once(index):
                left[self._trace.storages[index].role is Role.GRADIENT].append(index)
        return left

    def _boundaries(self) -> tuple[int, int]:
        """Return the events at which the first forward ends and the first backward begins."""
        ends = dict(reversed(self._trace.phase_ends))
        forward_end = ends.get(Phase.FORWARD, len(self._trace.events))
        return forward_end, ends.get(Phase.LOSS, forward_end)


def placed_workspaces(
    trace: Trace, workspaces: Workspaces | None
) -> dict[int, list[tuple[int, tuple[int, ...]]]]:
    """Return ``{event: [(op, sizes)]}``: before which event each kernel takes its workspaces.

    After everything that its own op allocated, before anything that a later op does.
    """
    if workspaces is None:
        return {}
    known: dict[tuple[Any, ...], tuple[int, ...]] = {}
    found: dict[int, tuple[int, ...]] = {}
    for op in trace.ops:  # a rule sees no more than these, and like operators share them
        key = (op.name, id(op.args), id(op.kwargs), id(op.outputs), id(op.layouts))
        sizes = known.get(key)
        if sizes is None:
            sizes = known[key] = workspaces(op)
        if sizes:
            found[op.index] = sizes
    return _placed(trace, found)


def _placed(
    trace: Trace, sizes: Mapping[int, tuple[int, ...]]
) -> dict[int, list[tuple[int, tuple[int, ...]]]]:
    placed: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
    ops = list(accumulate((event.op for event in trace.events), max)) if sizes else []
    for op, blocks in sizes.items():
        placed.setdefault(bisect_right(ops, op), []).append((op, blocks))
    return placed
