"""Last stage: a GPU's limit and context, and whether the steps fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from torchgauge.estimate.memory.allocator import AllocatorResult, AllocatorSettings, replay
from torchgauge.estimate.memory.intervals import Spread, spread_of
from torchgauge.estimate.memory.loop import Loop, repeat
from torchgauge.estimate.memory.workspaces import Platform, workspaces_for
from torchgauge.estimate.memory.workspaces.cuda.benchmark import cache_clearings
from torchgauge.estimate.memory.workspaces.cuda.cublas import kept_workspaces
from torchgauge.facts.fit import Part, Verdict
from torchgauge.facts.memory import MemoryEstimate
from torchgauge.facts.trace import Role, Trace

STEPS: Final = 3
"""The first makes the optimizer's states, the second finds them, the third is like all later."""
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
class Gpu:
    """What of a GPU and its software decides about memory."""

    platform: Platform
    settings: AllocatorSettings
    usable_bytes: int | None = None
    """Memory that the driver reports; ``None`` for no limit."""
    context_bytes: int = 0
    context_interval: tuple[int, int] | None = None
    """The least and the most that the context may take; ``None`` where it is exact."""
    other_programs_bytes: int = 0

    @property
    def capacity_bytes(self) -> int | None:
        """Return what the caching allocator can get."""
        if self.usable_bytes is None:
            return None
        return self.usable_bytes - self.context_bytes - self.other_programs_bytes

    @property
    def contexts(self) -> tuple[int, int]:
        """Return the least and the most that the context may take."""
        return self.context_interval or (self.context_bytes, self.context_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What the steps take of a GPU, and whether they fit."""

    allocated_bytes: int
    reserved_bytes: int
    """What the caching allocator would hold; ``weigh`` says it without a limit."""
    gpu: Gpu
    spread: Spread
    fits: bool
    """Whether the steps run if they take what is predicted."""
    verdict: Verdict

    @property
    def device_bytes(self) -> int:
        """Return what the device would show as used."""
        return self.reserved_bytes + self.gpu.context_bytes

    @property
    def device_interval(self) -> tuple[int, int]:
        """Return the least and the most that the device may show as used."""
        low, high = self.spread.around(self.reserved_bytes)
        return low + self.gpu.contexts[0], high + self.gpu.contexts[1]

    @property
    def most_allocated_bytes(self) -> int:
        """Return the most that may be allocated, and what the context may take in addition."""
        context = self.gpu.contexts[1] - self.gpu.context_bytes
        return self.spread.around(self.allocated_bytes)[1] + context


def loop_of(trace: Trace, gpu: Gpu, steps: int | None = None) -> Loop:
    """Return the allocations of the steps of a scenario on a GPU."""
    if steps is None:
        steps = 1 if trace.scenario.first_step else STEPS
    workspaces = workspaces_for(gpu.platform)
    return repeat(
        trace,
        steps,
        workspaces,
        lasting=kept_workspaces(trace, gpu.platform),
        clearing=cache_clearings(trace, gpu.platform),
    )


def under_the_limit(loop: Loop, gpu: Gpu, free_run: AllocatorResult) -> AllocatorResult:
    """Replay under the device's memory where the steps would take more than it has."""
    capacity = gpu.capacity_bytes
    reserved = max(free_run.reserved_after, default=0)
    if capacity is None or reserved <= capacity:
        return replace(free_run, peak_reserved_bytes=reserved)
    return replay(loop.events, gpu.settings, max(capacity, 0))


def weigh(trace: Trace, gpu: Gpu, steps: int | None = None) -> Weight:
    """Return what the steps of a scenario take on a GPU.

    Assumes: nothing else uses the device than what the scenario says.
    """
    loop = loop_of(trace, gpu, steps)
    free_run = replay(loop.events, gpu.settings)
    allocated, reserved = free_run.peak_allocated_bytes, free_run.peak_reserved_bytes
    spread = spread_of(trace, gpu.platform, reserved)
    fits, verdict = judge(loop, gpu, spread, allocated, reserved)
    return Weight(
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        gpu=gpu,
        spread=spread,
        fits=fits,
        verdict=verdict,
    )


def judge(
    loop: Loop, gpu: Gpu, spread: Spread, allocated_bytes: int, reserved_bytes: int
) -> tuple[bool, Verdict]:
    """Return whether the predicted bytes run, and the verdict over the interval around them.

    The peaks are those of a run without a limit.
    """
    capacity = gpu.capacity_bytes
    if capacity is None:
        return True, Verdict.FITS

    def runs(capacity: int) -> bool:
        if reserved_bytes <= capacity:
            return True
        return allocated_bytes <= capacity and replay(loop.events, gpu.settings, capacity).fits

    fits = runs(capacity)
    least, most = (capacity + gpu.context_bytes - context for context in reversed(gpu.contexts))
    safe, last = spread.limits(least, most)
    if runs(safe if fits else last) is not fits:
        return fits, Verdict.TOO_CLOSE
    if not fits:
        return False, Verdict.DOES_NOT_FIT
    return True, Verdict.FITS if reserved_bytes <= capacity else Verdict.FRAGMENTED


def breakdown(memory: MemoryEstimate) -> dict[Part, int]:
    """Return what the bytes that the device shows are for; ``memory`` is without a limit."""
    assert memory.peak_reserved_bytes is not None and memory.context_bytes is not None
    parts = dict.fromkeys(Part, 0)
    for role, nbytes in memory.at_peak.items():
        parts[PART_OF[role]] += nbytes
    parts[Part.ALLOCATOR] += memory.peak_reserved_bytes - memory.peak_allocated_bytes
    parts[Part.CONTEXT] = memory.context_bytes
    return {part: nbytes for part, nbytes in parts.items() if nbytes}
