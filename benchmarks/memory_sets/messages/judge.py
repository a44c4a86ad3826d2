"""What ``torchgauge.fit`` says of a public run, and where the run would fail under its limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.memory_sets.cases import Measured
from benchmarks.memory_sets.messages.cases import PublicRun
from benchmarks.memory_sets.tracing import trace_of
from torchgauge.estimate.memory.allocator import OutOfMemory, replay
from torchgauge.estimate.memory.device import Weight, loop_of, weigh
from torchgauge.estimate.memory.roles import where
from torchgauge.facts.fit import Verdict
from torchgauge.oom.message import read_message
from torchgauge.oom.places import find_places
from torchgauge.target import target_of

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A run and what was predicted for it."""

    run: PublicRun
    weight: Weight
    peaks: Mapping[Measured, int]
    """Predictions of the figures of a run that ended."""
    failure: OutOfMemory | None
    """Where the allocator fails under the limit of the message; ``None`` where it does not."""
    places: tuple[str, ...] | None
    """The operators that ``torchgauge explain-oom`` finds, the likeliest first; ``None`` where the
    source has not all numbers of the message."""

    @property
    def verdict(self) -> Verdict:
        """Return what ``torchgauge.fit`` says of the GPU."""
        return self.weight.verdict

    @property
    def is_wrong(self) -> bool:
        """Return whether the verdict is the opposite of what happened; never if too close."""
        if self.verdict is Verdict.TOO_CLOSE:
            return False
        return self.verdict.runs is self.run.case.out_of_memory

    @property
    def tried(self) -> str:
        """Return the size that the allocator fails at, as a message prints it."""
        return "" if self.failure is None else printed(self.failure.segment_bytes)

    @property
    def failure_error(self) -> float | None:
        """Return predicted ÷ printed − 1 of what is allocated where the run failed."""
        message = self.run.message
        if message is None or message.allocated_bytes is None or self.failure is None:
            return None
        return self.failure.allocated_bytes / message.allocated_bytes - 1

    def errors(self) -> Mapping[Measured, float]:
        """Return predicted ÷ true − 1 of each figure of a run that ended."""
        return {name: self.peaks[name] / true - 1 for name, true in self.run.peaks.items()}


def judge(run: PublicRun, cache: Path | None = None) -> Judged:
    """Trace a run and weigh it on its GPU.

    Raises:
        Exception: whatever the model, or the simulation, raised.
    """
    case = run.case
    trace = trace_of(case, cache)
    gpu = target_of(case.scenario).gpu
    assert gpu is not None
    if case.context_bytes is not None:
        gpu = replace(gpu, context_bytes=case.context_bytes, context_interval=None)
    weight = weigh(trace, gpu, run.steps)
    failure, places = None, None
    if run.message is not None:
        loop = loop_of(trace, gpu, run.steps)
        limit = gpu.capacity_bytes if run.message.limit_bytes is None else run.message.limit_bytes
        failure = replay(loop.events, gpu.settings, limit).out_of_memory
        if run.message.text:
            found = find_places(trace, loop, gpu.settings, read_message(run.message.text)).found
            places = tuple(where(trace, loop.origins[place.event])[2] for place in found)
    peaks = {
        Measured.ACTIVE: weight.allocated_bytes,
        Measured.RESERVED: weight.reserved_bytes,
        Measured.DEVICE: weight.device_bytes,
    }
    return Judged(run=run, weight=weight, peaks=peaks, failure=failure, places=places)


def printed(nbytes: int) -> str:
    """Return bytes as ``format_size`` of PyTorch's ``CUDACachingAllocator.cpp`` prints them.

    >>> printed(824180736)
    '786.00 MiB'
    """
    return f"{nbytes / MIB:.2f} MiB" if nbytes <= 1024 * MIB else f"{nbytes / 2**30:.2f} GiB"
