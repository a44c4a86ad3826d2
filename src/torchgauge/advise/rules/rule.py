"""What a rule of the advisor is: it finds changes and faults, and makes its changes in a copy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change, Rewriter
from torchgauge.facts.loop.advice import Fault


class Rule(Rewriter, Protocol):
    """One kind of advice; ``look`` finds, ``rewrite`` makes."""

    name: str
    about: str
    """What it looks for, in one line."""

    def look(self, subject: Subject) -> Iterable[Change | Fault | str]:
        """Yield what there is to do or to repair; a text says why there is nothing."""
