"""What changed between two reports: figures, settings, verdict, and the layers that carry it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from torchgauge.facts.answer import Headed, Model
from torchgauge.facts.codec.shape import Shape
from torchgauge.units import format_number_of

LAYER_FIGURES = (
    "params", "trainable_params", "param_bytes", "macs", "backward_flops", "elementwise_flops",
    "activation_bytes", "saved_activation_bytes", "gradient_bytes", "time_ms",
)  # fmt: skip
"""Fields of a layer's own cost that add up over layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of both reports, ``None`` where a report does not hold it."""

    name: str
    """As in the report's JSON: ``"totals.params"``, ``"memory.device_bytes"``."""
    before: float | None
    after: float | None

    json: ClassVar = Shape(more=("difference", "ratio"))

    @property
    def difference(self) -> float | None:
        """Return after minus before; ``None`` where one of them is missing."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before

    @property
    def ratio(self) -> float | None:
        """Return after divided by before; ``None`` where that is nothing or not known."""
        return self.after / self.before if self.before and self.after is not None else None


def figures_beside(
    before: Mapping[str, float], after: Mapping[str, float], names: Iterable[str]
) -> tuple[Figure, ...]:
    """Return those of some figures of which either side is there."""
    there = (name for name in names if name in before or name in after)
    return tuple(
        Figure(name=name, before=before.get(name), after=after.get(name)) for name in there
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Something that the two were asked differently."""

    name: str
    before: str
    after: str


class ChangeKind(StrEnum):
    """What became of a layer."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    """It costs something else, or is of another type."""
    RENAMED = "renamed"
    """It has another path and costs the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChange:
    """One layer that is not the same in both.

    One that is there only once stands for what is below it and is there only once, too. All
    others are what they are without their sub-modules.
    """

    kind: ChangeKind
    path_before: str | None
    path_after: str | None
    type_before: str | None
    type_after: str | None
    modules: int = 1
    """How many modules it stands for."""
    before: Mapping[str, float] = field(default_factory=dict)
    """What it owned and did itself, by ``LAYER_FIGURES``; those that are zero in both left out."""
    after: Mapping[str, float] = field(default_factory=dict)

    json: ClassVar = Shape(more=("difference",))

    @property
    def path(self) -> str:
        """Return where it is, or was."""
        return (self.path_after if self.path_after is not None else self.path_before) or ""

    @property
    def type(self) -> str:
        """Return what it is, or was."""
        return self.type_after or self.type_before or ""

    @property
    def difference(self) -> dict[str, float]:
        """Return after minus before, by figure; those that are equal left out."""
        names = dict.fromkeys((*self.before, *self.after))
        found = {name: self.after.get(name, 0) - self.before.get(name, 0) for name in names}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictChange:
    """A device on which the step fitted and no longer does, or the other way round."""

    device_before: str
    device_after: str
    before: str
    after: str
    largest_batch: int | None = None
    """The largest batch that fits after the change; ``None`` where it was not looked for."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparison(Headed):
    """Two reports side by side. With ``outside``, the layers' differences sum to the totals'."""

    tool_version: str
    model_before: Model
    model_after: Model
    settings: tuple[Setting, ...]
    """What differs in the scenario, the inputs and the tools."""
    figures: tuple[Figure, ...]
    """Of the whole model, those that are equal too."""
    verdict: VerdictChange | None
    layers: tuple[LayerChange, ...]
    """Those that carry most of a difference first; renamed ones last."""
    outside: Mapping[str, float]
    """Differences of what no layer did: the loss, the optimizer, and the time outside of layers."""
    notes: tuple[Setting, ...] = ()
    """What only one of the reports says: not counted, guessed, warned about."""

    json: ClassVar = Shape(
        names=(
            "schema_version", "tool", "is_equal", "model_before", "model_after", "settings",
            "figures", "verdict", "layers", "outside", "notes",
        ),
        derived=("is_equal",),
    )  # fmt: skip

    @property
    def is_equal(self) -> bool:
        """Return whether nothing differs: no setting, no figure and no layer."""
        figures = all(figure.before == figure.after for figure in self.figures)
        return figures and not (self.settings or self.layers or self.verdict or self.notes)

    def __str__(self) -> str:
        """Return in one line what changed; ``torchgauge.show`` prints the whole page."""
        names = dict.fromkeys((self.model_before.name, self.model_after.name))
        if self.is_equal:
            return f"{' → '.join(names)}: no difference"
        params = self.figure("totals.params").difference or 0
        layers = format_number_of(len(self.layers), "layer")
        return f"{' → '.join(names)}: {params:+,.0f} parameters, {layers} changed"

    def figure(self, name: str) -> Figure:
        """Return a figure of the whole model.

        Raises:
            KeyError: neither report holds it.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)
