"""Every block of memory that is alive at the peak: with what the report names, all of the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torchgauge.estimate.memory.device import Gpu
from torchgauge.estimate.memory.lifetimes import LiveBytes, alive_after, first_event
from torchgauge.estimate.memory.pipeline import peak_on_gpu
from torchgauge.estimate.memory.roles import where
from torchgauge.facts.trace import Role, StorageRecord, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakBlock:
    """One block, or, without a storage, what is not a tensor's."""

    role: Role
    nbytes: int
    storage: StorageRecord | None = None
    module: str = ""
    """Of a workspace: the module whose operator works in it."""
    op: str = ""


def blocks_at_peak(trace: Trace, live: LiveBytes, gpu: Gpu | None) -> tuple[PeakBlock, ...]:
    """Return the blocks; they sum to ``MemoryEstimate.peak_allocated_bytes``."""
    return tuple(_on_cpu(trace, live) if gpu is None else _on_gpu(trace, gpu))


def _on_cpu(trace: Trace, live: LiveBytes) -> Iterator[PeakBlock]:
    first = first_event(trace)
    peak = max(range(max(first - 1, 0), len(live.after)), key=live.highest, default=-1)
    for storage in alive_after(trace, peak):
        yield PeakBlock(role=storage.role, nbytes=storage.nbytes, storage=storage)
    scratch = live.workspaces.get(peak, 0)
    if scratch:
        _, module, op = where(trace, trace.events[peak].op)
        yield PeakBlock(role=Role.WORKSPACE, nbytes=scratch, module=module, op=op)


def _on_gpu(trace: Trace, gpu: Gpu) -> Iterator[PeakBlock]:
    peak = peak_on_gpu(trace, gpu)
    alive = peak.loop.alive(peak.event)
    for storage, nbytes, origin in alive:
        if storage >= 0:
            record = trace.storages[storage]
            yield PeakBlock(role=record.role, nbytes=nbytes, storage=record)
        else:
            _, module, op = where(trace, origin)
            yield PeakBlock(role=Role.WORKSPACE, nbytes=nbytes, module=module, op=op)
    rounding = peak.allocated_bytes - sum(nbytes for _, nbytes, _ in alive)
    if rounding:
        yield PeakBlock(role=Role.ROUNDING, nbytes=rounding)
