"""From the allocations of a step to a verdict, and what the bytes of the device are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torchgauge.estimate.memory.allocator import replay
from torchgauge.estimate.memory.gpu import Gpu
from torchgauge.estimate.memory.steps import Loop
from torchgauge.facts.fit import Part, Verdict
from torchgauge.facts.memory import MemoryEstimate
from torchgauge.facts.trace import Role

PART_OF: Final[Mapping[Role, Part]] = {
    Role.PARAMETER: Part.PARAMETERS,
    Role.BUFFER: Part.PARAMETERS,
    Role.GRADIENT: Part.GRADIENTS,
    Role.OPTIMIZER_STATE: Part.OPTIMIZER_STATES,
    Role.SAVED_ACTIVATION: Part.ACTIVATIONS,
    Role.INPUT: Part.INPUTS,
    Role.OUTPUT: Part.OUTPUTS,
    Role.TEMPORARY: Part.TEMPORARIES,
    Role.WORKSPACE: Part.TEMPORARIES,
    Role.ROUNDING: Part.ALLOCATOR,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What a step takes of a device, and whether that is there."""

    allocated_bytes: int
    reserved_bytes: int
    """What the caching allocator would hold without a limit."""
    context_bytes: int
    verdict: Verdict

    @property
    def device_bytes(self) -> int:
        """Return what the device would show as used."""
        return self.reserved_bytes + self.context_bytes


def weigh(loop: Loop, gpu: Gpu) -> Weight:
    """Return what the steps of a loop take on a GPU.

    Assumes: nothing else uses the device.
    """
    free_run = replay(loop.events, gpu.settings)
    return Weight(
        allocated_bytes=free_run.peak_allocated_bytes,
        reserved_bytes=free_run.peak_reserved_bytes,
        context_bytes=gpu.context_bytes,
        verdict=judge(loop, gpu, free_run.peak_allocated_bytes, free_run.peak_reserved_bytes),
    )


def judge(loop: Loop, gpu: Gpu, allocated_bytes: int, reserved_bytes: int) -> Verdict:
    """Return the verdict, given the peaks of a run without a limit."""
    capacity = gpu.capacity_bytes
    if capacity is None or reserved_bytes <= capacity:
        return Verdict.FITS
    if allocated_bytes > capacity or not replay(loop.events, gpu.settings, capacity).fits:
        return Verdict.DOES_NOT_FIT
    return Verdict.FRAGMENTED


def breakdown(memory: MemoryEstimate) -> dict[Part, int]:
    """Return what the bytes that the device shows are for; ``memory`` is without a limit."""
    assert memory.peak_reserved_bytes is not None and memory.context_bytes is not None
    parts = dict.fromkeys(Part, 0)
    for role, nbytes in memory.at_peak.items():
        parts[PART_OF[role]] += nbytes
    parts[Part.ALLOCATOR] += memory.peak_reserved_bytes - memory.peak_allocated_bytes
    parts[Part.CONTEXT] = memory.context_bytes
    return {part: nbytes for part, nbytes in parts.items() if nbytes}
