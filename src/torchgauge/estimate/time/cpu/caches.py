"""What it costs that something has left the caches since it was last used.

Python, dispatch and kernels take up to ten times as long when what ran in between has pushed their
code and tables out; data that was written or read long ago comes from main memory. How much runs in
between is in the trace. A distance is the bytes that operators have moved since the last use, their
scratch memory included: a stack distance (R. L. Mattson et al., "Evaluation techniques for storage
hierarchies", 1970), where what was moved twice counts twice. For data it is at the most all memory
that a step touches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final

from torchgauge.estimate.arguments import given_tensors
from torchgauge.estimate.time.cpu.heap import Heap
from torchgauge.estimate.time.cpu.page_faults import MAPPED_FROM
from torchgauge.estimate.time.cpu.surface import Positive
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.facts.trace import OpRecord, Phase, Role, StorageEvent, StorageRecord, Trace

MODULE: Final = "module"
VIEW: Final = "view"
PYTHON: Final = "python"
LIKE: Final = {Kind.ATTENTION: Kind.MATMUL, Kind.DEPTHWISE: Kind.CONVOLUTION}
"""Kinds whose code was timed as that of another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caches:
    """What was measured, by the bytes that were moved since the last use."""

    distances: tuple[Positive, ...]
    """Bytes moved since the last use, rising."""
    code: tuple[float, ...]
    """At each distance, the share of the cost of code that has left all caches: 0 to 1."""
    read: tuple[float, ...]
    """At each distance, seconds that reading a byte takes."""
    written: tuple[float, ...]
    """At each distance, seconds that writing a byte takes."""
    code_us: Mapping[str, float]
    """Microseconds that code takes longer out of the caches: an operator by its kind, ``"module"``
    for entering one, ``"view"``, and ``"python"`` for a call of a function."""

    def code_seconds(self, name: str, distance: float, own: float = 0.0) -> float:
        """Return what code takes longer at a distance than at that at which it was timed."""
        share = self._at(self.code, distance) - (self._at(self.code, own) if own else 0.0)
        return max(0.0, share) * self.code_us.get(name, self.code_us[Kind.ELEMENTWISE]) * 1e-6

    def seconds(self, moved: Sequence[float], nbytes: float, distance: float, own: float) -> float:
        """Return what reading or writing takes longer than at the distance ``own``."""
        return nbytes * max(0.0, self._at(moved, distance) - self._at(moved, own))

    def _at(self, values: Sequence[float], distance: float) -> float:
        """Interpolate over the logarithm of the distance; the edges go on."""
        places = self.distances
        above = bisect_right(places, distance)
        if above == 0:
            return values[0]
        if above == len(places):
            return values[-1]
        left, right = places[above - 1], places[above]
        share = log(distance / left) / log(right / left)
        return (1.0 - share) * values[above - 1] + share * values[above]


class LastUses:
    """How far back each thing was last used, while a step's operators go by.

    A step is one of many, all alike: what it uses for the first time was last used a whole step
    ago, and new tensors get the memory that the steps before have left. No data is further away
    than all memory that a step touches.
    """

    def __init__(
        self,
        trace: Trace,
        traffic: Mapping[int, float],
        scratch: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        """Begin a step.

        Args:
            trace: of the step.
            traffic: by operator, the bytes that it moves.
            scratch: by operator, the bytes of each block that it takes for itself.
        """
        self._trace = trace
        self._traffic = traffic
        self._scratch = scratch or {}
        self._now = 0.0
        self._whole = self._most = sum(traffic.values())
        self._used: dict[str | int, float] = {}
        """When, by the name of code or the index of a storage."""
        self._heap = Heap()
        self._event = 0
        self._mapped: dict[int, int] = {}
        """Blocks alive that are mapped separately."""
        self._most_mapped = 0
        for op in trace.ops:  # the step before
            self.code(op.name)
            self.data(op)
        self._heap.free_all()
        self._mapped.clear()
        self._event = 0
        standing = sum(s.nbytes for s in trace.storages if self._stands(s))
        self._most = float(standing + self._heap.nbytes + self._most_mapped)

    def code(self, name: str) -> float:
        """Return the distance to the last use of some code, and note that it is used."""
        distance = self._since(name)
        self._used[name] = self._now
        return distance

    def data(self, op: OpRecord) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """Return bytes and distance of what an operator reads, and of what it makes.

        Without blocks that are mapped separately, and without parameters in the forward and the
        backward: weights of layers were timed lying in host memory.
        """
        storages = self._trace.storages
        made: list[tuple[float, float]] = []
        for index in self._begun(op.index):
            made += self._taken(index, storages[index].nbytes)
        names = range(-1, -1 - len(self._scratch.get(op.index, ())), -1)
        for name, nbytes in zip(names, self._scratch.get(op.index, ()), strict=True):
            made += self._taken(name, nbytes)
        read = []
        for tensor, index in zip(given_tensors(op), op.reads, strict=False):
            if op.phase is Phase.OPTIMIZER or storages[index].role is not Role.PARAMETER:
                size = float(min(tensor.nbytes, storages[index].nbytes))
                read.append((size, min(self._since(index), self._most)))
        self._now += self._traffic.get(op.index, 0.0)
        for index in dict.fromkeys((*op.reads, *op.writes)):
            self._used[index] = self._now
            self._heap.use(index, self._now)
        for name in names:
            self._heap.use(name, self._now)
            self._heap.free(name)
        return read, made

    def _since(self, thing: str | int) -> float:
        return self._now - self._used.get(thing, self._now - self._whole)

    def _begun(self, op: int) -> list[int]:
        """Return the storages that begin with an operator, after noting those that ended."""
        events: Sequence[StorageEvent] = self._trace.events
        begun: dict[int, None] = {}
        while self._event < len(events) and events[self._event].op <= op:
            event = events[self._event]
            self._event += 1
            if event.is_free:
                self._heap.free(event.storage)
                self._mapped.pop(event.storage, None)
                begun.pop(event.storage, None)
            elif not self._stands(self._trace.storages[event.storage]):
                begun[event.storage] = None
        return list(begun)

    @staticmethod
    def _stands(storage: StorageRecord) -> bool:
        """Return whether memory is there before and after the step: weights, states, inputs."""
        is_kept = storage.op < 0 or storage.role is Role.OPTIMIZER_STATE
        return is_kept and not storage.is_host

    def _taken(self, name: int, nbytes: int) -> list[tuple[float, float]]:
        if nbytes >= MAPPED_FROM:
            if name >= 0:
                self._mapped[name] = nbytes
                self._most_mapped = max(self._most_mapped, sum(self._mapped.values()))
            return []
        if nbytes == 0:
            return []
        return [
            (float(size), self._most if used is None else min(self._now - used, self._most))
            for size, used in self._heap.take(name, nbytes)
        ]
