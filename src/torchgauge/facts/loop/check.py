"""Models against their budgets: each limit with its figure, and the layers that broke it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from torchgauge.facts.answer import Headed
from torchgauge.facts.codec.shape import Shape
from torchgauge.facts.loop.comparison import Comparison
from torchgauge.units import format_number_of


class Outcome(StrEnum):
    """What came of a limit, or of a model."""

    OK = "ok"
    OVER = "over"
    ERROR = "error"
    """It could not be checked."""


class Unit(StrEnum):
    """What a figure counts."""

    COUNT = "count"
    MACS = "macs"
    BYTES = "bytes"
    MILLISECONDS = "ms"
    OPERATORS = "operators"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShare:
    """What one layer adds to a figure, or to its difference to the baseline."""

    path: str
    type: str
    value: float
    is_difference: bool
    """Against the baseline; else the layer's own part of the figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitCheck:
    """One limit of one model."""

    key: str
    """As in the file: ``"max-params"``, ``"fits"``."""
    figure: str
    """As in the report's JSON: ``"totals.params"``."""
    unit: Unit
    written: str
    """The limit as it is in the file; of ``fits`` the device."""
    line: int
    """Of the limit in the file."""
    outcome: Outcome
    value: float | None = None
    limit: float | None = None
    baseline: float | None = None
    """The figure of the baseline; ``None`` where the limit is not relative to one."""
    detail: str = ""
    """A verdict, what was not counted, or why it could not be checked."""
    hint: str = ""
    layers: tuple[LayerShare, ...] = ()
    """Of a limit that is exceeded: those that carry most."""

    json: ClassVar = Shape(more=("excess",))

    @property
    def excess(self) -> float | None:
        """Return by how much the figure is over the limit; negative where it is under it."""
        if self.value is None or self.limit is None:
            return None
        return self.value - self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCheck:
    """One model against its limits."""

    name: str
    """As in ``[tool.torchgauge.models.NAME]``."""
    spec: str
    line: int
    """Of the model's table in the file."""
    limits: tuple[LimitCheck, ...] = ()
    error: str = ""
    """Why it could not be analysed."""
    hint: str = ""
    error_status: int = 0
    """The exit status of that error."""
    doubts: tuple[str, ...] = ()
    """What was not counted, guessed or warned about."""
    notes: tuple[str, ...] = ()
    comparison: Comparison | None = None
    """Against the base revision; ``None`` where there is none to compare with."""

    json: ClassVar = Shape(more=("outcome",))

    @property
    def outcome(self) -> Outcome:
        """Return the worst outcome of its limits."""
        found = {limit.outcome for limit in self.limits}
        if self.error or Outcome.ERROR in found:
            return Outcome.ERROR
        return Outcome.OVER if Outcome.OVER in found else Outcome.OK

    @property
    def exit_status(self) -> int:
        """Return 0, 1 for a limit exceeded, 2 for one that cannot be checked, 3 for a failure."""
        if self.error:
            return self.error_status
        return {Outcome.OK: 0, Outcome.OVER: 1, Outcome.ERROR: 2}[self.outcome]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CheckReport(Headed):
    """All models that were checked, in the order of the file."""

    tool_version: str
    config: str
    """The file that holds the budgets, from the folder where the check ran."""
    base: str | None = None
    """The revision that they are compared with."""
    models: tuple[ModelCheck, ...]

    json: ClassVar = Shape(
        names=("schema_version", "tool", "exit_status", "config", "base", "models"),
        derived=("exit_status",),
    )

    @property
    def exit_status(self) -> int:
        """Return the highest exit status of any model."""
        return max((model.exit_status for model in self.models), default=0)

    def __str__(self) -> str:
        """Return in one line how many models are within their budgets."""
        counts = ((self.count(outcome), outcome) for outcome in Outcome)
        told = ", ".join(f"{count} {outcome}" for count, outcome in counts if count)
        models = format_number_of(len(self.models), "model")
        return f"{self.config}: {models}" + (f", {told}" if told else "")

    def count(self, outcome: Outcome) -> int:
        """Return how many models have an outcome."""
        return sum(model.outcome is outcome for model in self.models)
