"""Milliseconds of a step: measured, predicted, and both side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torchgauge.facts.answer import Saved
from torchgauge.facts.codec.damage import Damage
from torchgauge.facts.codec.shape import Shape
from torchgauge.facts.trace import Phase
from torchgauge.shown import Shown
from torchgauge.units import format_milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The spread of repeated measurements around their median, in milliseconds.

    ``low_ms`` to ``high_ms`` holds the true median with the measurement's confidence; it is read
    off the sorted samples and assumes no distribution.
    """

    low_ms: float
    high_ms: float
    fastest_ms: float
    slowest_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTime:
    """All runs of one operator in one phase, by the kernel that did the work."""

    name: str
    """As recorded, without the overload: ``"aten.convolution"``."""
    kernel: str
    """What it spent its time in: a GPU kernel, or the operator that the CPU ended up in."""
    phase: Phase
    calls: int
    time_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """How the times of a real run were taken."""

    device: str
    """What it ran on, for people: ``"cpu, 8 threads"``, the name of a GPU."""
    repetitions: int
    warm_up: int
    """Steps that ran before, not counted."""
    confidence: float
    """Probability that an interval holds the true median."""
    intervals: Mapping[str, Interval]
    """By ``"total"`` and the phases that ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """All runs of one operator of one module in a phase, and what they would take at the roof."""

    op: str
    """As recorded, without the overload: ``"aten.convolution"``."""
    module: str
    """Path of the module that it serves, ``""`` for the root and outside of all."""
    phase: Phase
    calls: int
    time_ms: float
    """With the time that the GPU waits for it."""
    roof_ms: float
    """At the datasheet's peak rate or bandwidth, whichever takes longer, and without waiting."""
    bound_by: str
    """``"compute"``, ``"memory"`` or ``"launch"``: what most of its time goes to."""

    json: ClassVar = Shape(
        names=(
            "op", "module", "phase", "calls", "time_ms", "roof_ms", "gain_ms", "bound_by",
        ),
        derived=("gain_ms",),
    )  # fmt: skip

    @property
    def gain_ms(self) -> float:
        """Return what a step would gain if it ran at the roof, at most."""
        return max(0.0, self.time_ms - self.roof_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePrediction:
    """How predicted times were made, and what they say of the device."""

    device: str
    """The GPU's name, as ``torchgauge devices`` lists it; of a CPU its threads and torch too."""
    error: float
    """Relative error that four of five published measurements stay within: ±0.2 is ±20 %. On a CPU
    four of five steps of networks like those that were timed when it was calibrated, and more with
    the share of operators that are known less well."""
    bound_by: Mapping[str, float] = field(default_factory=dict)
    """Shares of the step that ``"compute"``, ``"memory"`` and ``"launch"`` decide: 1 in all."""
    samples_per_second: float | None = None
    """``None`` where the batch size is not known."""
    flops_share: float | None = None
    """Matmul-like FLOPs of the step, as a share of what the device's peak rate of the scenario's
    precision would do in that time (MFU); ``None`` where that rate is not known."""
    most_joules: float | None = None
    """Energy of the step at the board's power limit: it takes no more. ``None`` where the limit is
    not known."""
    bottlenecks: tuple[Bottleneck, ...] = ()
    """The ten that would gain most at the roof, the largest gain first."""

    json: ClassVar = Shape(
        names=(
            "device", "error", "samples_per_second", "flops_share", "most_joules", "bottlenecks",
        ),
        later=("bottlenecks",),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Milliseconds of one step. Measured figures are each a median of all repetitions."""

    forward_ms: float
    loss_ms: float = 0.0
    backward_ms: float = 0.0
    optimizer_ms: float = 0.0
    total_ms: float
    outside_ms: float = 0.0
    """Spent outside of every module: the loss, the optimizer, autograd's own work. With the
    time of each module, sub-modules not included, it sums to ``total_ms``."""
    between_ops_ms: float = 0.0
    """Spent outside of every operator: Python and dispatch. With ``ops`` it sums to the total."""
    ops: tuple[OpTime, ...] = ()
    """The slowest first."""
    measured: Measurement | None = None
    """``None`` when the times were not measured."""
    predicted: TimePrediction | None = None
    """``None`` when the times were not predicted."""

    json: ClassVar = Shape(
        names=(
            "forward_ms", "loss_ms", "backward_ms", "optimizer_ms", "total_ms", "outside_ms",
            "between_ops_ms", "ops", "measured", "bound_by", "predicted",
        ),
        left_out=("bound_by", "predicted"),
    )  # fmt: skip

    @property
    def bound_by(self) -> Mapping[str, float] | None:
        """Return the shares of a predicted step: see ``TimePrediction``."""
        return None if self.predicted is None else self.predicted.bound_by

    @classmethod
    def from_json(
        cls,
        *,
        bound_by: Mapping[str, float] | None,
        predicted: TimePrediction | None,
        **given: Any,
    ) -> StepTime:
        """Return the times from what their JSON holds.

        Raises:
            Damage: the shares of a prediction are missing.
        """
        if predicted is not None:
            if not bound_by:
                raise Damage("bound_by", "is missing")
            predicted = replace(predicted, bound_by=bound_by)
        return cls(predicted=predicted, **given)


OUTSIDE = "outside of every module"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRow:
    """One part of a step in both reports, in milliseconds."""

    name: str
    """A phase, the path of a module (``""`` is the root), or an operator."""
    kind: str
    """Class of the module, phase of the operator, ``""`` for a phase."""
    predicted_ms: float
    measured_ms: float

    json: ClassVar = Shape(more=("difference_ms", "ratio"))

    @property
    def difference_ms(self) -> float:
        """Return predicted minus measured."""
        return self.predicted_ms - self.measured_ms

    @property
    def ratio(self) -> float | None:
        """Return predicted divided by measured, ``None`` where nothing was measured."""
        return self.predicted_ms / self.measured_ms if self.measured_ms > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TimeComparison(Shown, Saved):
    """Rows of each kind, the worst first: those that add most to the error of the step.

    The rows of ``modules`` leave sub-modules out, so that in each column they sum to the
    step's total. Those of ``operators`` lack the time between operators.
    """

    model_name: str
    predicted_on: str
    measured_on: str
    total: TimeRow
    phases: tuple[TimeRow, ...]
    modules: tuple[TimeRow, ...]
    operators: tuple[TimeRow, ...]

    def __str__(self) -> str:
        """Return both times of the step in one line."""
        predicted = format_milliseconds(self.total.predicted_ms)
        measured = format_milliseconds(self.total.measured_ms)
        ratio = "" if self.total.ratio is None else f", ratio {self.total.ratio:.2f}"
        return (
            f"{self.model_name}: {predicted} a step predicted for {self.predicted_on}, "
            f"{measured} measured on {self.measured_on}{ratio}"
        )
