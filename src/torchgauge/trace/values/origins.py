"""What values were guessed from."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeAlias

Origins: TypeAlias = "frozenset[Hashable]"
"""What a value was guessed from."""
KNOWN: Origins = frozenset()
FROM_SIZE: Origins = frozenset({"an input that was made from its size alone"})
FINITE: Origins = frozenset({"numbers that were taken to be finite"})
DRAWN: Origins = frozenset({"a random number, which differs in another run"})
POSITIVE: Origins = frozenset({"magnitudes that were taken to be larger than zero"})
TAKEN = FINITE | DRAWN | POSITIVE
"""Guesses that a real run would only make in its own way."""
