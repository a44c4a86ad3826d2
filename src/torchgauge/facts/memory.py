"""Bytes of a step: what an estimate says, and what a real run occupied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torchgauge.facts.codec.damage import Damage
from torchgauge.facts.codec.quick import made_quickly
from torchgauge.facts.codec.shape import Shape
from torchgauge.facts.fit import Verdict
from torchgauge.facts.trace import Phase, Role


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePoint:
    """Live bytes after one op in which they changed."""

    op: int
    phase: Phase
    live_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AliveTensor:
    """A block of memory that is alive at the peak."""

    nbytes: int
    role: Role
    label: str
    """Name of the parameter or input, else the operator that made it."""
    module: str
    """Path of the module that made or owns it, ``""`` for the root and outside of all."""
    shape: tuple[int, ...] | None
    dtype: str
    """Of the first tensor in it; ``None`` and ``""`` where that is not known."""
    code: str
    """``file.py:12``: the line of the model's code that made it; ``""`` where none did."""

    json: ClassVar = Shape(
        names=("bytes", "role", "label", "module", "shape", "dtype", "code"),
        sources={"bytes": "nbytes"},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The moment at which most bytes are allocated."""

    phase: Phase
    module: str
    op: str


GPU_FIELDS = (
    "peak_reserved_bytes", "context_bytes", "device_bytes", "minimum_bytes", "capacity_bytes",
    "fits", "verdict",
)  # fmt: skip
"""Fields of a ``MemoryEstimate`` that only a step on a GPU has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes of tensors over one step, from storage lifetimes; no allocator rounding, no context."""

    input_bytes: int
    parameter_bytes: int
    buffer_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    saved_activation_bytes: int
    output_bytes: int
    peak_allocated_bytes: int
    peak_phase: Phase
    peak_module: str
    peak_op: str
    at_peak: Mapping[Role, int]
    """Live bytes per role at the moment of the peak; they sum to ``peak_allocated_bytes``."""
    timeline: tuple[TimelinePoint, ...] = ()
    alive_at_peak: tuple[AliveTensor, ...] = ()
    """The largest blocks alive at the peak, the largest first."""
    peak_reserved_bytes: int | None = None
    """What the caching allocator holds at most; this and what follows: only for a GPU."""
    context_bytes: int | None = None
    """The CUDA context: driver state and loaded kernels, outside of the allocator."""
    device_bytes: int | None = None
    """What the device shows as used: reserved + context."""
    minimum_bytes: int | None = None
    """The smallest limit of the caching allocator under which the step still runs."""
    capacity_bytes: int | None = None
    """Memory of the device that the driver reports."""
    fits: bool | None = None
    """Whether the predicted bytes run on the device; ``None`` where no device has been named."""
    intervals: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By figure: between which bytes four of five steps of its kind lie."""
    verdict: Verdict | None = None
    """Whether the step runs over the interval of its memory: it may be too close to call."""

    json: ClassVar = Shape(
        names=(
            "input_bytes", "parameter_bytes", "gradient_bytes", "optimizer_bytes",
            "saved_activation_bytes", "peak_allocated_bytes", "peak_at", "at_peak", "timeline",
            "buffer_bytes", "output_bytes", "alive_at_peak", "intervals", *GPU_FIELDS,
        ),
        left_out=("alive_at_peak", "intervals", *GPU_FIELDS),
    )  # fmt: skip

    @property
    def peak_at(self) -> Peak:
        """Return phase, module and operator of the peak."""
        return Peak(phase=self.peak_phase, module=self.peak_module, op=self.peak_op)

    @classmethod
    def from_json(cls, *, peak_at: Peak, **given: Any) -> MemoryEstimate:
        """Return the estimate from what its JSON holds.

        Raises:
            Damage: of what a GPU holds, a part is missing.
        """
        whole = ("peak_reserved_bytes", "context_bytes", "device_bytes")
        missing = [name for name in whole if given.get(name) is None]
        if missing and any(given.get(name) is not None for name in GPU_FIELDS):
            raise Damage(missing[0], "is missing")
        return cls(
            peak_phase=peak_at.phase, peak_module=peak_at.module, peak_op=peak_at.op, **given
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMemory:
    """What a real run occupied in one phase."""

    phase: Phase
    allocated_bytes: int
    """Most bytes of tensors at any moment, as the allocator counts them."""
    reserved_bytes: int | None = None
    """Most bytes that the caching allocator held; ``None`` without one (CPU)."""
    device_bytes: int | None = None
    """Used on the device by everybody when the phase ended; ``None`` on the CPU."""
    resident_bytes: int | None = None
    """Of the process in main memory when the phase ended; ``None`` where it is not known."""
