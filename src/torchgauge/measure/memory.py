"""What a real step occupies, phase by phase: tensors, the allocator's blocks, the process."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

from torchgauge.facts.memory import MemoryEstimate, PhaseMemory
from torchgauge.facts.trace import Phase
from torchgauge.measure.step import RealStep


def phase_memory(step: RealStep, traced: MemoryEstimate | None) -> tuple[PhaseMemory, ...]:
    """Run one step and return what each phase occupied.

    On the GPU all figures are the caching allocator's and the driver's own. The CPU's allocator
    keeps no statistics: there the bytes of tensors are those of the recorded real step.
    """
    found: dict[Phase, PhaseMemory] = {}
    on_gpu = step.device.type == "cuda"
    peaks = {} if traced is None else _peaks(traced)

    def note(phase: Phase) -> None:
        now = PhaseMemory(
            phase=phase, allocated_bytes=peaks.get(phase, 0), resident_bytes=resident_bytes()
        )
        now = _on_gpu(phase, step.device) if on_gpu else now
        before = found.get(phase)
        found[phase] = now if before is None else _larger(before, now)

    if on_gpu:
        torch.cuda.reset_peak_memory_stats(step.device)
    step.run(note)
    return tuple(found.values())


def release(device: torch.device) -> None:
    """Collect what is left of a measurement and give the GPU's cache back."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _on_gpu(phase: Phase, device: torch.device) -> PhaseMemory:
    torch.cuda.synchronize(device)
    statistics = torch.cuda.memory_stats(device)
    free, whole = torch.cuda.mem_get_info(device)
    torch.cuda.reset_peak_memory_stats(device)
    return PhaseMemory(
        phase=phase,
        allocated_bytes=statistics["allocated_bytes.all.peak"],
        reserved_bytes=statistics["reserved_bytes.all.peak"],
        device_bytes=whole - free,
        resident_bytes=resident_bytes(),
    )


def _peaks(traced: MemoryEstimate) -> dict[Phase, int]:
    """Return the most live bytes of each phase; what it found alive counts too."""
    peaks: dict[Phase, int] = {}
    before = 0
    for point in traced.timeline:
        peaks[point.phase] = max(peaks.get(point.phase, before), point.live_bytes)
        before = point.live_bytes
    return peaks


def _larger(one: PhaseMemory, other: PhaseMemory) -> PhaseMemory:
    def most(left: int | None, right: int | None) -> int | None:
        return None if left is None or right is None else max(left, right)

    return PhaseMemory(
        phase=one.phase,
        allocated_bytes=max(one.allocated_bytes, other.allocated_bytes),
        reserved_bytes=most(one.reserved_bytes, other.reserved_bytes),
        device_bytes=most(one.device_bytes, other.device_bytes),
        resident_bytes=most(one.resident_bytes, other.resident_bytes),
    )


def resident_bytes() -> int | None:
    """Return the process's resident set, ``None`` where the system does not tell (not Linux)."""
    try:
        import resource

        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except (ImportError, OSError, IndexError):
        return None
    return int(pages) * resource.getpagesize()
