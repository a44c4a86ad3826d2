"""Other ways to run the same step: precision, optimizer, checkpointing, batch, memory format."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.changes.ideas import ACCUMULATION, IDEAS, LORA, Idea, micro_batch
from torchgauge.changes.step import SCENARIO

_MOST_MICRO_BATCHES = 16
"""Each is traced."""


class HowItRuns:
    """Propose what the scenario leaves out."""

    name = SCENARIO
    about = "precision, optimizer, checkpointing, accumulation and memory format for the same step"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield changes of the scenario that its device can do."""
        for idea in IDEAS:
            if idea.axis == LORA or not idea.suits(subject.step.scenario):
                continue
            made = idea.make(subject.step)
            if isinstance(made, Change):
                yield made
                yield from _smaller(subject, idea)
            elif made:
                yield f"{idea.name}: {made}"

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Nothing in the model changes."""


def _smaller(subject: Subject, idea: Idea) -> Iterator[Change]:
    """Yield micro-batches of one sample where a goal may need them."""
    batch = subject.step.batch or 1
    if idea is ACCUMULATION and subject.goal is not None and 2 < batch <= _MOST_MICRO_BATCHES:
        yield micro_batch(subject.step, 1)
