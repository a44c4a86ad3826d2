"""How a figure came about: what adds up to it, by which formula, from which source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torchgauge.facts.answer import Headed, Model
from torchgauge.facts.codec.shape import Shape
from torchgauge.facts.scenario import Scenario
from torchgauge.units import format_integer


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """One part of a figure; all parts sum to it."""

    name: str
    """An operator, a parameter, or what a block of memory is."""
    module: str
    """Path of the module that it belongs to, ``""`` for the root and outside of all."""
    phase: str
    """Of the step, or the role of a block of memory; ``""`` where there is neither."""
    count: int
    """How many operators or blocks it stands for."""
    value: float
    detail: str
    """Shapes and dtypes of the first of them, or the line of the model's code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one kind of part is worked out."""

    name: str
    """The operator, or the part of the figure."""
    formula: str
    source: str
    """``""`` for a formula that follows from the definition."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Explanation(Headed):
    """One figure of a report, or, without a model, what that figure is."""

    tool_version: str
    figure: str
    """``"macs"``."""
    place: str
    """Where the JSON of a report has it: ``"totals.forward_macs"``."""
    unit: str
    """``"parameters"``, ``"MACs"``, ``"FLOPs"``, ``"bytes"`` or ``"ms"``."""
    definition: str
    model: Model | None = None
    scenario: Scenario | None = None
    module: str | None = None
    """Path of the module that it was asked of; ``None`` for the whole model."""
    value: float | None = None
    """``None`` without a model."""
    contributions: tuple[Contribution, ...] = ()
    """All parts, the largest first."""
    rules: tuple[Rule, ...] = ()
    assumptions: tuple[str, ...] = ()
    not_counted: tuple[str, ...] = ()
    """What the figure should hold and does not."""

    json: ClassVar = Shape(
        names=(
            "schema_version", "tool", "figure", "place", "unit", "definition", "model", "scenario",
            "module", "value", "contributions", "rules", "assumptions", "not_counted",
        ),
    )  # fmt: skip

    def __str__(self) -> str:
        """Return the figure and how many parts it has in one line."""
        if self.value is None:
            return f"{self.figure}: {self.definition}"
        name = "" if self.model is None else f" of {self.model.name}"
        value = format_integer(int(self.value)) if self.unit != "ms" else f"{self.value:.6g}"
        return f"{self.figure}{name}: {value} {self.unit} in {len(self.contributions)} parts"
