"""One recorded step, repeated as a training loop would: the allocations of several steps.

The recorder sees one step that finds no gradients and makes the optimizer's states. A loop runs
many: states are made once, the gradients and outputs of a step live on into the next. If a loop
only sets its gradients to zero, the first backward makes them. What a kernel takes for itself is
allocated and freed inside its operator.

Assumes: the loop keeps the names of its batch, output and loss until the next ones are there, as
``output = model(batch)`` in a ``for`` does; batches are alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from torchgauge.estimate.memory.allocator import EMPTY_CACHE
from torchgauge.estimate.memory.lifetimes import first_event, still_alive
from torchgauge.estimate.memory.workspaces import Workspaces, placed, placed_workspaces
from torchgauge.facts.scenario import ZeroGrad
from torchgauge.facts.trace import Phase, Role, Trace

Event = tuple[bool, int, int]
"""``(is_free, key, nbytes)``; a key stands for one block, or is ``EMPTY_CACHE``."""

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

    def alive(self, event: int) -> list[tuple[int, int, int]]:
        """Return storage, bytes and op of the blocks that are alive after an event."""
        blocks: dict[int, tuple[int, int, int]] = {}
        for index, (is_free, key, nbytes) in enumerate(self.events[: event + 1]):
            if is_free:
                blocks.pop(key, None)
            else:
                blocks[key] = self.storages[index], nbytes, self.origins[index]
        return list(blocks.values())


def repeat(
    trace: Trace,
    steps: int,
    workspaces: Workspaces | None = None,
    *,
    lasting: Mapping[int, int] | None = None,
    clearing: Collection[int] = (),
) -> Loop:
    """Return what ``steps`` steps allocate and free; storages on the host are left out.

    ``lasting`` says by op how many bytes it takes in the first step and keeps for good;
    ``clearing`` are the ops that empty the allocator's cache before they run in the first step.
    """
    return _Repeater(trace, workspaces, lasting or {}, clearing).run(steps)


class _Repeater:
    def __init__(
        self,
        trace: Trace,
        workspaces: Workspaces | None,
        lasting: Mapping[int, int],
        clearing: Collection[int],
    ) -> None:
        self._trace = trace
        self._count = len(trace.storages)
        self._loop = Loop()
        self._next_workspace = -1
        self._kernels = placed_workspaces(trace, workspaces)
        self._lasting = placed(trace, {op: (size,) for op, size in lasting.items()})
        self._clearing = placed(trace, dict.fromkeys(sorted(clearing), ()))
        self._first = first_event(trace)
        self._standing = still_alive(trace.events[: self._first])
        own = trace.events[self._first :]
        self._ended = {event.storage for event in own if event.is_free}
        left = [index for index in still_alive(own) if not self._is_once(index)]
        gradients = {s.index for s in trace.storages if s.role is Role.GRADIENT}
        # What is alive at the end and freed by the next step.
        self._gradients = [index for index in left if index in gradients]
        self._outputs = [index for index in left if index not in gradients]
        # The events at which the first forward ends and the first backward begins.
        ends = dict(reversed(trace.phase_ends))
        self._forward_end = ends.get(Phase.FORWARD, len(trace.events))
        before_backward = trace.scenario.zero_grad is ZeroGrad.BEFORE_BACKWARD
        backward_start = ends.get(Phase.LOSS, self._forward_end)
        self._zero_grad_at = backward_start if before_backward else self._first
        self._made_late = self._first_gradients()
        self._late = {index for made in self._made_late.values() for index in made}

    def _first_gradients(self) -> dict[int, list[int]]:
        """Return, by event, the gradients there from the start that the first backward makes.

        It keeps the block that it has computed a gradient in (``AccumulateGrad`` in PyTorch's
        ``accumulate_grad.h``), where all later ones add that block to the gradient and free it.
        """
        storages, events = self._trace.storages, self._trace.events
        standing = {i for i in self._standing if storages[i].role is Role.GRADIENT}
        written: dict[int, int] = {}
        for op in self._trace.ops if standing else ():
            if op.phase is Phase.BACKWARD:
                for index in standing.intersection(op.writes):
                    written.setdefault(index, op.index)
        made: dict[int, list[int]] = {}
        for index, op_index in written.items():
            event = bisect_right(events, op_index, key=lambda event: event.op)
            frees_block = event < len(events) and events[event].is_free
            made.setdefault(event + frees_block, []).append(index)
        return made

    def run(self, steps: int) -> Loop:
        for step in range(steps):
            self._loop.starts.append(len(self._loop.events))
            self._begin(step)
            for index, event in enumerate(self._trace.events[self._first :], self._first):
                self._make_gradients(step, index)
                self._between(step, index)
                self._run_kernels(step, index)
                if step == 0 or not self._is_once(event.storage):
                    self._add(step, event.storage, event.op, is_free=event.is_free)
            self._make_gradients(step, len(self._trace.events))
            self._between(step, len(self._trace.events))
            self._run_kernels(step, len(self._trace.events))
        return self._loop

    def _begin(self, step: int) -> None:
        """Bring in what exists before the step, or only the next batch."""
        for index in self._standing:
            if self._is_once(index) and (step > 0 or index in self._late):
                continue
            self._add(step, index, -1)
            if step > 0 and index not in self._ended:
                self._add(step - 1, index, -1, is_free=True)

    def _is_once(self, index: int) -> bool:
        """Return whether a storage comes and goes at most once in the whole loop."""
        storage = self._trace.storages[index]
        return storage.role in _FOR_GOOD or (storage.op < 0 and storage.role is not Role.INPUT)

    def _make_gradients(self, step: int, index: int) -> None:
        """Bring in, before event ``index`` of the first step, the gradients that it makes."""
        for storage in self._made_late.get(index, ()) if step == 0 else ():
            self._add(step, storage, self._trace.events[index - 1].op)

    def _between(self, step: int, index: int) -> None:
        """Free, before event ``index``, what the step before has left."""
        if step == 0:
            return
        gradients = self._gradients if index == self._zero_grad_at else []
        outputs = self._outputs if index == self._forward_end else []
        for storage in (*gradients, *outputs):
            self._add(step - 1, storage, -1, is_free=True)

    def _run_kernels(self, step: int, index: int) -> None:
        if step == 0:
            for op, sizes in self._lasting.get(index, ()):
                self._take(op, sizes)
            for op, _ in self._clearing.get(index, ()):
                self._loop.add(True, EMPTY_CACHE, 0, op=op, storage=-1)
        for op, sizes in self._kernels.get(index, ()):
            for key, size in zip(self._take(op, sizes), sizes, strict=True):
                self._loop.add(True, key, size, op=op, storage=-1)

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
