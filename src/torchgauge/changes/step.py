"""The step that is to be changed, as ideas look at it, and how they write down a change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from torchgauge.changes.change import Change
from torchgauge.devices import Device
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.facts.precision import dtypes_of
from torchgauge.facts.report import Report
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Trace

SCENARIO: Final = "scenario"
"""The rule of a change that touches no model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is known of the step that is to be changed."""

    scenario: Scenario
    device: Device | None
    """``None`` for the CPU."""
    batch: int | None = None
    """``None`` where the inputs do not say which of their dimensions is the batch."""
    largest_batch: int | None = None
    """That runs for sure, where it is known; 0 when not even one sample does."""
    dtypes: tuple[str, ...] = ()
    """Of the parameters, the one of most elements first."""
    kinds: frozenset[str] = frozenset()
    """Types of the modules."""

    @property
    def has_batch_norms(self) -> bool:
        """Return whether a sample's result depends on the others of its batch."""
        return any("BatchNorm" in kind for kind in self.kinds)

    @property
    def has_maps(self) -> bool:
        """Return whether the model has images inside."""
        return any("Conv2d" in kind for kind in self.kinds)


def step_of(ran: Report | Trace, device: Device | None) -> Step:
    """Return what a report or a trace says of a step on a GPU, or ``None`` for the CPU."""
    modules = ran.modules.values() if isinstance(ran, Report) else ran.modules
    return Step(
        scenario=ran.scenario,
        device=device,
        batch=ran.batch_size,
        dtypes=dtypes_of(ran),
        kinds=frozenset(module.type for module in modules),
    )


def change_of(
    axis: str,
    label: str,
    text: str,
    why: str,
    *,
    accuracy: Accuracy = Accuracy.NONE,
    cost: str = "",
    source: str = "",
    snippet: str = "",
    batch: int | None = None,
    **fields: Any,
) -> Change:
    """Return a change of the scenario: ``fields`` are what becomes of it."""
    return Change(
        rule=SCENARIO,
        axis=axis,
        label=label,
        text=text,
        why=why,
        accuracy=accuracy,
        cost=cost,
        source=source,
        snippet=tuple(snippet.splitlines()),
        batch=batch,
        scenario=fields,
    )
