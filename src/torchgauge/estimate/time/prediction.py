"""The predicted timeline of a step, and what it says of phases, module calls and bounds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from torchgauge.devices import Device
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.facts.trace import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRun:
    """One kernel on the predicted timeline; times in seconds since the step began."""

    op: int
    """Index of the operator in the trace."""
    name: str
    kind: Kind
    dtype: str
    call: int
    phase: Phase
    issued: float
    """When the CPU had launched it."""
    start: float
    end: float
    idle: float
    """How long the GPU had waited for it."""
    compute_seconds: float
    """What its arithmetic alone would take at the sustained rate."""
    memory_seconds: float
    """What moving its bytes alone would take."""
    launch_seconds: float
    """Beginning and ending a kernel, on the GPU."""
    roof_seconds: float
    """What it would take at the datasheet's rates: arithmetic or memory, whichever is longer."""
    flops: float
    nbytes: float
    error: float = 0.0
    """Relative error to expect of its time."""
    waits: tuple[tuple[int, float], ...] = ()
    """What of ``idle`` was the Python of other module calls: their indices, and seconds."""

    @property
    def seconds(self) -> float:
        """Return how long it ran."""
        return self.end - self.start

    @property
    def bound_by(self) -> str:
        """Return which takes longer, ``"compute"`` or ``"memory"``."""
        return "compute" if self.compute_seconds > self.memory_seconds else "memory"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The predicted timeline of a step."""

    name: str
    """Of what runs it, for people."""
    gpu: Device | None = None
    """``None`` for a CPU, which runs one operator after the other."""
    kernels: tuple[KernelRun, ...]
    """In the order in which they run; on a CPU one per operator."""
    cpu_seconds: float
    """What Python and dispatch take in all, on a CPU with the operators."""
    peak_flops_per_second: float | None = None
    """Of the arithmetic that the scenario names."""
    error: float = 0.0
    """Relative error that four of five published measurements stay within, on a CPU four of five
    steps of other networks, and more with the share of operators that are known less well."""

    @cached_property
    def total_seconds(self) -> float:
        """Return the time of the step: until the GPU has done all, and the CPU too."""
        last = self.kernels[-1].end if self.kernels else 0.0
        return max(last, self.cpu_seconds)

    def phase_seconds(self) -> dict[Phase, float]:
        """Return the time by phase; they sum to the total.

        A phase lasts from the end of the kernels before it to the end of its own.
        """
        found: defaultdict[Phase, float] = defaultdict(float)
        for kernel in self.kernels:
            found[kernel.phase] += kernel.idle + kernel.seconds
        if self.kernels:
            found[self.kernels[-1].phase] += self.total_seconds - self.kernels[-1].end
        elif self.total_seconds:
            found[Phase.FORWARD] = self.total_seconds
        return dict(found)

    def call_seconds(self, calls: int) -> tuple[list[float], list[float], float]:
        """Return the time of each call, forward and backward, and the time outside all calls.

        They sum to the total; sub-modules are not included.
        """
        forward, backward = [0.0] * calls, [0.0] * calls
        outside = self.total_seconds - (self.kernels[-1].end if self.kernels else 0.0)
        for kernel in self.kernels:
            by_call = backward if kernel.phase is Phase.BACKWARD else forward
            own = kernel.idle + kernel.seconds
            for _, seconds in kernel.waits:
                own -= seconds
            owner = -1 if kernel.phase is Phase.OPTIMIZER else kernel.call
            for call, seconds in (*kernel.waits, (owner, own)):
                if call < 0:
                    outside += seconds
                else:
                    by_call[call] += seconds
        return forward, backward, outside

    def bound_by(self) -> dict[str, float]:
        """Return the shares of the step that arithmetic, memory and launches decide; they sum to 1.

        A kernel is bound by the longer of the two; its beginning and end, and the time in which
        the GPU waits for the CPU, are launches.
        """
        total, spent = self.total_seconds, {"compute": 0.0, "memory": 0.0}
        if not total:
            return {**spent, "launch": 0.0}
        for kernel in self.kernels:
            spent[kernel.bound_by] += kernel.seconds - kernel.launch_seconds
        launch = max(0.0, 1.0 - sum(spent.values()) / total)
        return {**{name: seconds / total for name, seconds in spent.items()}, "launch": launch}
