"""Low-rank adapters: linear layers are frozen, and two narrow layers beside each are trained."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.changes.ideas import LORA, lora
from torchgauge.changes.lora import adapt, why_not


class Lora:
    """Propose adapters where linear layers hold most of what is trained."""

    name = LORA
    about = "adapters beside the linear layers, with the rest frozen"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield the change, or why adapters do not help."""
        if not subject.step.scenario.is_training:
            yield "nothing is trained"
            return
        if reason := why_not(subject.model):
            yield reason
            return
        yield lora(subject.step)

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Adapt the layers of the copy."""
        adapt(model, change.settings["rank"])
