"""Predicted and measured times of one step, side by side: pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torchgauge.facts.codec import Shape
from torchgauge.facts.saved import Saved

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


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeComparison(Saved):
    """Rows of each kind, the worst first: those that add most to the error of the step.

    The rows of ``modules`` are what each module takes by itself; in each column they sum to the
    step's total. Those of ``operators`` lack the time between operators.
    """

    model_name: str
    predicted_on: str
    measured_on: str
    total: TimeRow
    phases: tuple[TimeRow, ...]
    modules: tuple[TimeRow, ...]
    operators: tuple[TimeRow, ...]
