"""The coefficients of the cost formulas: data, fitted on public measurements.

``coefficients.csv`` holds one per row with its meaning, the value that was expected from the
hardware before any fit, how far the fit was allowed to go from it, and the data sets it was fitted
on. ``make calibrate`` writes it anew.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).with_name("coefficients.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """One row of the table."""

    name: str
    value: float
    expected: float
    """What the hardware's documentation, or a round number, says before any fit."""
    spread: float
    """Standard deviation, in the logarithm, that the fit may go from it."""
    fitted_on: str
    """The data sets with which it was fitted, empty where it was set and not fitted."""
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """All coefficients by name, and how well predictions with them agree with measurements."""

    rows: tuple[Coefficient, ...]

    @property
    def values(self) -> Mapping[str, float]:
        """Return the values by name."""
        return {row.name: row.value for row in self.rows}


@cache
def built_in() -> Coefficients:
    """Return the coefficients that the package ships."""
    return read(FILE)


def read(path: Path) -> Coefficients:
    """Read a table of coefficients.

    Raises:
        OSError: the file cannot be read.
        ValueError: a value is no number.
    """
    with path.open(newline="", encoding="utf-8") as lines:
        found = csv.DictReader(line for line in lines if not line.startswith("#"))
        return Coefficients(
            rows=tuple(
                Coefficient(
                    name=row["name"],
                    value=float(row["value"]),
                    expected=float(row["expected"]),
                    spread=float(row["spread"]),
                    fitted_on=row["fitted_on"],
                    meaning=row["meaning"],
                )
                for row in found
            )
        )
