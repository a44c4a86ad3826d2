"""Which modules to recompute in the backward, so that a step fits at the least extra work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from torchgauge.facts.answer import Answer
from torchgauge.facts.choices.checkpointing import KeptOperator
from torchgauge.facts.codec.shape import Shape
from torchgauge.facts.loop.comparison import Figure
from torchgauge.facts.memory import Peak
from torchgauge.facts.scenario import Scenario
from torchgauge.shown import door


class Least(StrEnum):
    """What a plan minimizes."""

    FLOPS = "flops"
    """FLOPs that run twice; an element-wise operation counts as one."""
    TIME = "time"
    """Predicted time of the operators that run twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryGoal:
    """What the memory of a step has to stay under."""

    text: str
    """As it was asked: ``"keep 50% of the activations"``, ``"fit T4"``."""
    figure: str
    """``"memory.peak_allocated_bytes"``, on a GPU ``"memory.device_bytes"``; a share of the
    activations is one of tensors on both."""
    most_bytes: int
    device: str | None = None
    """The GPU that the step has to fit, where that is the goal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """One part of the model whose forward is run again in the backward."""

    place: str
    """The path of a module, or ``"features[0:5]"``: children of an ``nn.Sequential``."""
    type: str
    dropped_bytes: int
    """What it no longer saves, over all its calls."""
    flops: int
    """What runs a second time: the forward up to the last operator that the backward needs."""
    calls: int = 1
    kept: tuple[KeptOperator, ...] = ()
    """Operators whose outputs are kept, and so not computed again."""

    @property
    def spelled(self) -> str:
        """Return it as ``analyze(model, …, checkpointed=…)`` takes it: ``"layers.3+addmm"``."""
        return "+".join((self.place, *map(str, self.kept)))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CheckpointPlan(Answer):
    """A choice of modules to checkpoint, traced with it."""

    tool_version: str
    torch_version: str
    model_name: str
    model_spec: str | None
    scenario: Scenario
    """Of the step as it is."""
    batch_size: int | None
    goal: MemoryGoal
    fits: bool
    """Whether the traced plan meets the goal; where none does it is the one of least memory."""
    least: Least
    recomputed: tuple[Recomputed, ...]
    """In the order of the forward; empty where the step meets the goal as it is."""
    figures: tuple[Figure, ...]
    """Of the step before and after, both traced."""
    peak_at: Peak
    """Where the peak is with the plan."""
    blocks: Mapping[str, float] = field(default_factory=dict)
    """The figures with all repeated blocks checkpointed, to compare; empty where there are none."""
    gap: float | None = None
    """How far the extra work may lie above the least, as a share, by what the solver proved;
    ``None`` where it proved nothing for this goal, as where an allocator's fragments decide."""
    candidates: int = 0
    """How many places could have been chosen."""
    refused: tuple[str, ...] = ()
    """Modules that write into a tensor from outside: their forward cannot be run twice."""
    broken: tuple[str, ...] = ()
    """Places that failed when they were run again, such as one that gets a list that grows."""
    traces: int = 1
    snippet: tuple[str, ...] = ()
    """Lines of code to paste before the training loop."""
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    json: ClassVar = Shape(
        names=(
            "schema_version", "tool", "torch_version", "model", "scenario", "batch_size", "goal",
            "fits", "least", "recomputed", "figures", "peak_at", "blocks", "gap", "candidates",
            "refused", "broken", "traces", "snippet", "assumptions", "warnings",
        ),
    )  # fmt: skip

    @property
    def checkpointed(self) -> tuple[str, ...]:
        """Return the places, as ``analyze(model, …, checkpointed=…)`` takes them."""
        return tuple(item.spelled for item in self.recomputed)

    def figure(self, name: str) -> Figure:
        """Return a figure before and after; both ``None`` where it is not known."""
        found = (item for item in self.figures if item.name == name)
        return next(found, Figure(name=name, before=None, after=None))

    def apply(self, model: Any, *, in_place: bool = False) -> Any:
        """Return a copy of a model that recomputes the planned parts in its backward.

        With ``in_place`` it is the model itself, and no copy is made; ``del module.forward`` on
        each changed module takes the plan back.

        Raises:
            TorchGaugeError: the model has not all of these parts, or has a plan already.
        """
        return door("apply a plan")(self, model, in_place=in_place)

    def __str__(self) -> str:
        """Return the plan in one line; ``torchgauge.show`` prints it all."""
        parts = f"{len(self.recomputed)} of {self.candidates} places recomputed"
        met = "met" if self.fits else "not met"
        return f"{self.model_name}: {parts}; goal {met}: {self.goal.text}"
