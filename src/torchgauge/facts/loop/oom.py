"""Why a step ran out of memory: what the error said, where in the step it was, what avoids it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torchgauge.facts.answer import Answer
from torchgauge.facts.codec.shape import Shape
from torchgauge.facts.memory import AliveTensor
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Phase, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedBytes:
    """A size that a message gives, rounded to two decimals of its unit."""

    least: int
    most: int

    @property
    def middle(self) -> int:
        """Return the size as it is written."""
        return (self.least + self.most) // 2

    def holds(self, nbytes: int) -> bool:
        """Return whether a size is written like this one."""
        return self.least <= nbytes <= self.most


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """A process that the message lists, with the memory that it has in use."""

    pid: int | None
    """``None`` for the process that failed."""
    used: StatedBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OomMessage:
    """The figures of an out-of-memory error; ``None`` for those that its release does not give."""

    backend: str
    """``"CUDA"``, ``"HIP"``, …: the word before *out of memory*."""
    wording: str
    """The releases of torch that word it like this: ``"2.2+"``."""
    gpu: int | None
    tried: StatedBytes
    """The segment that the allocator asked for; with ``asks_exactly`` the request itself."""
    allocated: StatedBytes
    capacity: StatedBytes | None = None
    free: StatedBytes | None = None
    reserved: StatedBytes | None = None
    allowed: StatedBytes | None = None
    """The limit of ``set_per_process_memory_fraction``."""
    private: StatedBytes | None = None
    """In the private pools of CUDA graphs."""
    processes: tuple[ProcessMemory, ...] = ()
    asks_exactly: bool = False
    """From ``cudaMallocAsync``, which rounds nothing up to a segment."""
    messages: int = 1
    """How many such messages the text holds; this is the first."""
    phase: Phase | None = None
    """Where the traceback was; this and the next two are empty without one."""
    operator: str = ""
    """The function that the innermost line calls: ``"conv2d"``."""
    lines: tuple[str, ...] = ()
    """``path/file.py:12`` of each frame, the innermost last."""

    @property
    def available(self) -> StatedBytes | None:
        """Return what the allocator could have had: reserved and free together."""
        held = self.reserved or self.allocated
        if self.free is None:
            return None
        return StatedBytes(least=held.least + self.free.least, most=held.most + self.free.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAllocation:
    """The allocation of the step that found no memory."""

    step: int
    """Of the training loop: 1 for the first."""
    phase: Phase | None
    """``None`` before the step: the model or its inputs are brought to the GPU."""
    module: str
    op: str
    role: Role
    label: str
    shape: tuple[int, ...] | None
    dtype: str
    code: str
    """``file.py:12``: the line of the model's code; ``""`` where that is not known."""
    requested_bytes: int
    segment_bytes: int
    allocated_bytes: int
    """What the replay had allocated at that moment."""
    is_exact: bool
    """Every figure of the message agrees to its last digit, not only within its tolerance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What of the GPU's memory was neither free nor the allocator's."""

    nbytes: int
    expected_least: int
    """The CUDA context of the process, as far as it is known."""
    expected_most: int
    other_programs_bytes: int
    """More than the context may take; 0 where it is not more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A change that was traced, and whether the step runs with it."""

    text: str
    minimum_bytes: int
    """The smallest memory that the step then runs in."""
    avoids: bool
    cost: str = ""
    snippet: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OomExplanation(Answer):
    """Where a step ran out of memory and why, or that this step is not the one that did."""

    tool_version: str
    torch_version: str
    model_name: str
    model_spec: str | None
    scenario: Scenario
    batch_size: int | None
    message: OomMessage
    found: FailedAllocation | None
    """The allocation that failed; ``None`` where nothing in the step matches."""
    places: int
    """How many allocations of the step match the message."""
    reason: str = ""
    """Why nothing matches."""
    at_failure: Mapping[Role, int] = field(default_factory=dict)
    """What was allocated, by role."""
    alive: tuple[AliveTensor, ...] = ()
    """The largest of it."""
    outside: Outside | None = None
    available_bytes: int | None = None
    """What the allocator could have had."""
    minimum_bytes: int = 0
    """The smallest memory of the allocator under which the step runs."""
    peak_reserved_bytes: int = 0
    """What it holds without a limit."""
    remedies: tuple[Remedy, ...] = ()
    others: tuple[str, ...] = ()
    """Where nothing matches: changes of the scenario under which the message does match."""
    traces: int = 1
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    json: ClassVar = Shape(
        names=(
            "schema_version", "tool", "torch_version", "model", "scenario", "batch_size",
            "message", "matches", "found", "places", "reason", "at_failure", "alive", "outside",
            "available_bytes", "minimum_bytes", "missing_bytes", "peak_reserved_bytes",
            "remedies", "others", "traces", "assumptions", "warnings",
        ),
        derived=("matches", "missing_bytes"),
    )  # fmt: skip

    @property
    def matches(self) -> bool:
        """Return whether the step holds an allocation that fails like this."""
        return self.found is not None

    @property
    def missing_bytes(self) -> int | None:
        """Return how much more the step would have needed; ``None`` where that is not known."""
        if self.available_bytes is None:
            return None
        return max(self.minimum_bytes - self.available_bytes, 0)

    def __str__(self) -> str:
        """Return in one line where it failed; ``torchgauge.show`` prints it all."""
        if self.found is None:
            return f"{self.model_name}: this step did not raise that error"
        where = self.found.module or "outside of every layer"
        return f"{self.model_name}: out of memory in {where}"
