"""The choice as a mixed-integer linear program: plain data, without a solver.

Columns: one binary for each candidate (1: computed again), one per block of memory and time up to
which a call needs it (1: the first copy is still there), and one running sum per moment, which
keeps the rows short.

Source of the idea: Jain et al., Checkmate, MLSys 2020 (arXiv 1910.02653); here what is chosen are
modules, because that is what can be written down in a training script.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

Terms = dict[int, float]
"""Coefficient by column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``lower <= sum of terms <= upper``; ``None`` for no bound."""

    terms: Terms
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Choose the binaries at the least cost, so that each moment's bytes stay under a limit."""

    choices: int
    """The first columns are binary: one for each candidate."""
    costs: tuple[float, ...]
    """Of the choices."""
    columns: int
    needs: tuple[tuple[int, float, Terms], ...]
    """``(column, constant, terms)``: a first copy is kept at least as far as the terms say. Those
    of one column stand behind all those that its terms name."""
    sums: tuple[tuple[int, int, Terms], ...]
    """``(column, column before or -1, terms)``: each running sum of bytes, in order."""
    rules: tuple[Row, ...]
    """Which choices exclude each other."""
    moments: tuple[MomentRow, ...]

    def values(self, chosen: frozenset[int]) -> list[float]:
        """Return the value of every column for a choice."""
        values = [1.0 if column in chosen else 0.0 for column in range(self.columns)]
        for column, constant, terms in self.needs:
            values[column] = max(values[column], constant + _sum(terms, values))
        for column, before, terms in self.sums:
            values[column] = (values[before] if before >= 0 else 0.0) + _sum(terms, values)
        return values

    def heights(self, chosen: frozenset[int]) -> list[int]:
        """Return the bytes that are alive at each moment under a choice."""
        values = self.values(chosen)
        return [round(m.live_bytes + _sum(m.terms, values)) for m in self.moments]

    def peak_bytes(self, chosen: frozenset[int]) -> int:
        """Return the most bytes that are alive at any moment under a choice."""
        return max(self.heights(chosen), default=0)

    def spelled_out(self, moments: Collection[int]) -> dict[int, Terms]:
        """Return what the columns add at some moments, without running sums."""
        found: dict[int, Terms] = {}
        wanted = set(moments)
        rows = iter(enumerate(self.moments))
        total: Terms = {}
        by_sum = {column: terms for column, _, terms in self.sums}
        reached = -1
        for number, row in rows:
            own = dict(row.terms)
            column = max((c for c in own if c in by_sum), default=-1)
            if column > reached:
                for c, v in by_sum[column].items():
                    total[c] = total.get(c, 0.0) + v
                reached = column
            if number in wanted:
                own.pop(column, None)
                for c, v in total.items():
                    own[c] = own.get(c, 0.0) + v
                found[number] = {c: v for c, v in own.items() if v}
        return found

    def cost(self, chosen: frozenset[int]) -> float:
        """Return what a choice costs."""
        return sum(self.costs[column] for column in chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentRow:
    """A moment: the bytes alive as the step is, and what the columns add to them."""

    live_bytes: int
    terms: Terms = field(default_factory=dict)


def _sum(terms: Terms, values: list[float]) -> float:
    return sum(factor * values[column] for column, factor in terms.items())
