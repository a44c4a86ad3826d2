"""How many steps were traced for an answer, told while it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Traces:
    """Number the traces of an answer, whoever makes them."""

    tell: Callable[[str], None]
    count: int = 0

    def say(self, what: str) -> None:
        """Tell what is traced next.

        >>> Traces(tell=print, count=2).say("batch 4")
        trace 3: batch 4
        """
        self.count += 1
        self.tell(f"trace {self.count}: {what}")
