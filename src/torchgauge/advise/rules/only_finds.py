"""What rules share that find faults: they tell, and change nothing."""

from __future__ import annotations

from torch import nn

from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Fault


class OnlyFinds:
    """A rule whose remedy is for a person to choose."""

    name: str
    about: str

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Nothing in the model changes."""

    def fault(
        self, subject: Subject, where: tuple[str, ...], *, text: str, why: str, remedy: str
    ) -> Fault:
        """Return a fault with the line of code that makes the first module."""
        code = subject.code_of(where[0]) if where else ""
        return Fault(rule=self.name, text=text, where=where, code=code, why=why, remedy=remedy)


def named(path: str) -> str:
    """Return how a module is called in a sentence."""
    return path or "the model"
