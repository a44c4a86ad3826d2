"""What to change in a model: each suggestion applied to a copy, traced again and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from torchgauge.errors import UsageError
from torchgauge.facts.answer import Answer
from torchgauge.facts.codec.shape import Shape
from torchgauge.facts.loop.comparison import Figure
from torchgauge.facts.scenario import Scenario
from torchgauge.shown import door


class Accuracy(StrEnum):
    """What a change does to what the model computes."""

    NONE = "none"
    """It computes the same, up to rounding."""
    SMALL = "small"
    """It computes nearly the same with the same weights."""
    RETRAIN = "retrain"
    """It is another model: it has to be trained."""

    @property
    def rank(self) -> int:
        """Return how far it goes: 0 for the same function."""
        return list(Accuracy).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A change as a diff of the user's own source, checked by importing the patched files."""

    diff: str
    """Unified, as ``git apply`` and ``patch -p1`` take it; ``""`` where there is none."""
    files: tuple[str, ...] = ()
    """What it changes, as the diff names them."""
    folder: str = ""
    """Where to apply it."""
    proof: tuple[str, ...] = ()
    """What was done with the patched files, and what came of it."""
    why_not: str = ""
    """Why there is no patch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A measure of how well the model does on the user's own data, before a change and after."""

    before: float
    after: float | None
    """``None`` where the changed model could not be measured."""
    note: str = ""
    """``"before retraining"``; or why there is no figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCheck:
    """What the models were run on, and what that says."""

    data: str
    """``data.py:loader``, or the class of the loader."""
    metric: str
    before: float
    """Of the model as it is."""
    samples: int
    """How many were measured; the same for every model."""
    is_complete: bool
    """``False`` where the time was up before the data."""
    seconds: float
    weights: str
    """What is known of the weights that were measured; ``""`` for the user's own."""


def _diff_of(patch: Patch | None, text: str) -> str:
    if patch is None:
        raise UsageError(
            f"no patch was made for {text!r}",
            hint='ask for it: tg.advise("model.py:Net", …, patch=True)',
        )
    if not patch.diff:
        raise UsageError(
            f"there is no patch for {text!r}: {patch.why_not}",
            hint="change the source by hand, or use apply(model)",
        )
    return patch.diff


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """One change that was made to a copy, with what it came to."""

    rule: str
    text: str
    """What to do, in one line."""
    where: tuple[str, ...]
    """Paths of the modules that it changes; empty for the whole step."""
    code: str
    """``model.py:12``: the line that makes the first of them; ``""`` where that is not known."""
    why: str
    accuracy: Accuracy
    cost: str
    """What it costs in accuracy or speed, in words; ``""`` for nothing."""
    source: str
    """Where that is from."""
    figures: tuple[Figure, ...]
    """The model's figures before and after; all of them traced, none added up."""
    proof: tuple[str, ...] = ()
    """What was tried for real with the changed copy, and what came of it."""
    snippet: tuple[str, ...] = ()
    """Lines of code that make the change, to paste."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the rule needs to make the change again."""
    scenario: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the scenario that it changes."""
    batch: int | None = None
    """The batch size that it changes to."""
    keeps_state: bool = True
    """Whether a ``state_dict`` of the model loads into the changed copy."""
    patched: Patch | None = None
    """Where patches were asked for: the change in the user's source, or why there is none."""
    check: Checked | None = None
    """Where the user's data were given."""

    json: ClassVar = Shape(
        later=("batch", "keeps_state", "patched", "check"), left_out=("patched", "check")
    )

    @property
    def changes_model(self) -> bool:
        """Return whether it touches the model, and not only how it runs."""
        return not self.scenario and self.batch is None

    def patch(self) -> str:
        """Return the change as a unified diff of the user's source.

        Raises:
            UsageError: no patch was asked for, or none can be made; the message says why.
        """
        return _diff_of(self.patched, self.text)

    def apply(self, model: Any) -> Any:
        """Return a changed copy of a model; the model stays as it is.

        Raises:
            UsageError: it changes how the model runs, not the model; or the model is another one.
        """
        return door("apply a suggestion")(self, model)

    def gain(self, name: str) -> float:
        """Return how much of a figure it saves, as a share; negative where it takes more.

        0.0 where it is not among the figures.
        """
        found = next((figure for figure in self.figures if figure.name == name), None)
        return 0.0 if found is None or found.ratio is None else 1.0 - found.ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is wrong with the model, whether or not its repair saves anything."""

    rule: str
    text: str
    where: tuple[str, ...]
    code: str
    why: str
    remedy: str
    patched: Patch | None = None
    """Where patches were asked for: the repair in the user's source, or why there is none."""

    json: ClassVar = Shape(later=("patched",), left_out=("patched",))

    def patch(self) -> str:
        """Return the repair as a unified diff of the user's source.

        Raises:
            UsageError: no patch was asked for, or none can be made; the message says why.
        """
        return _diff_of(self.patched, self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """A rule that has nothing to say of this model, and why."""

    rule: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is to be reached."""

    text: str
    """As it was asked: ``"params:-50%"``."""
    figure: str
    most: float
    """The figure's largest value that is good enough."""
    device: str | None = None
    """The device that the step has to fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStep:
    """One step of the way to a goal: what is changed, with everything before it changed too."""

    text: str
    rule: str
    figures: tuple[Figure, ...]
    """Before any change, and after this one."""
    reached: bool
    check: Checked | None = None
    """Where the user's data were given: with everything before it changed too."""
    change: Suggestion | None = None
    """The change itself, where it is none of the suggestions: it saves nothing alone, or it is
    made for what the steps before it leave. Its figures are those of the step before it."""

    json: ClassVar = Shape(later=("check", "change"), left_out=("check", "change"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """Changes that were made and traced together, of which no other is better in every respect."""

    changes: tuple[str, ...]
    """What is different, one each; empty for the step as it is."""
    rules: tuple[str, ...]
    accuracy: Accuracy
    """How far the one that goes furthest goes."""
    figures: tuple[Figure, ...]
    """Before any change, and after all of these; traced, not added up."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Advice(Answer):
    """What is wrong with a model, what it could do without, and the way to a goal."""

    tool_version: str
    torch_version: str
    model_name: str
    model_spec: str | None
    scenario: Scenario
    batch_size: int | None
    figures: Mapping[str, float]
    """Of the model as it is."""
    faults: tuple[Fault, ...]
    suggestions: tuple[Suggestion, ...]
    """The largest gain for the least cost first."""
    goal: Goal | None = None
    path: tuple[PathStep, ...] = ()
    reached: bool | None = None
    """Whether the path ends at the goal; ``None`` without one."""
    nearest: str = ""
    """Where the step does not fit the goal's GPU: one that it fits after the path."""
    path_patch: Patch | None = None
    """Where patches were asked for: all steps of the path that change the model, as one."""
    data_check: DataCheck | None = None
    """What suggestions and steps were checked on, where data were given."""
    front: tuple[Combination, ...] = ()
    """Without a goal: none that was traced is better in both axes without losing more accuracy.

    Least memory first; empty where nothing can be combined."""
    front_axes: tuple[str, ...] = ()
    """The two figures that are weighed against each other."""
    combinations: int = 0
    """How many combinations of several changes were traced."""
    exhausted: bool = False
    """Whether there were more to trace than a search may."""
    quiet: tuple[Quiet, ...] = ()
    traces: int = 1
    """How many steps were traced for this."""
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    report: Any = field(default=None, compare=False, repr=False)
    """The ``Report`` of the model as it is, for the page; not saved with the advice.

    A report holds a suggestion itself, so that its type cannot be named here."""

    json: ClassVar = Shape(
        names=(
            "schema_version", "tool", "torch_version", "model", "scenario", "batch_size",
            "figures", "goal", "reached", "path", "nearest", "faults", "suggestions", "front",
            "front_axes", "combinations", "exhausted", "quiet", "traces", "assumptions",
            "warnings", "path_patch", "data_check",
        ),
        later=("front", "front_axes", "combinations", "exhausted", "path_patch", "data_check"),
        left_out=("path_patch", "data_check"),
    )  # fmt: skip

    @property
    def path_changes(self) -> tuple[Suggestion, ...]:
        """Return the changes of the path, in order; empty where one of them is not known."""
        by_text = {item.text: item for item in self.suggestions}
        found = [step.change or by_text.get(step.text) for step in self.path]
        known = tuple(item for item in found if item is not None)
        return known if len(known) == len(found) else ()

    def view(self, *, height: int = 720) -> None:
        """Open the interactive page: in the cell of a notebook, elsewhere in the browser.

        Args:
            height: of the frame in the cell, in pixels.

        Raises:
            UsageError: for a height below 200.
        """
        door("view")(self, height=height)

    def __str__(self) -> str:
        """Return in one line how much there is to do; ``torchgauge.show`` prints it all."""
        found = f"{len(self.suggestions)} suggestions, {len(self.faults)} faults"
        if self.goal is not None:
            found += f", {self.goal.text} {'reached' if self.reached else 'not reached'}"
        return f"{self.model_name}: {found}"
