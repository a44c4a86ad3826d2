"""What rules share that change how a step runs: they leave the model as it is."""

from __future__ import annotations

from torch import nn

from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.devices import Device


class ScenarioOnly:
    """A rule whose change is a field of the scenario, or the batch."""

    name: str
    about: str

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Nothing in the model changes."""


def gpu_of(subject: Subject) -> Device | None:
    """Return the GPU that the step is traced for, ``None`` for a CPU."""
    return subject.step.device
