"""The tables that the package ships: CSV files, whose lines with ``#`` are notes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final

COEFFICIENTS: Final = Path(__file__).with_name("coefficients.csv")
"""What was fitted on public measurements of GPUs: the coefficients of the predicted time.

One per row: its meaning, the value that the hardware's documentation or a round number gives before
any fit (``expected``), the standard deviation in the logarithm that the fit may go from it
(``spread``), and the data sets of the fit, empty where a value was set and not fitted
(``fitted_on``). ``make calibrate`` writes the file.
"""
MEMORY_INTERVALS: Final = COEFFICIENTS.with_name("memory_intervals.csv")
"""Between which shares of the prediction four of five published figures of memory lie, by the kind
of the step; ``benchmarks/memory_sets/intervals.py`` writes the file."""


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table by column.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def rows_beside(module: str) -> list[dict[str, str]]:
    """Return the rows of a module's table: the ``.csv`` next to its file (``__file__``)."""
    return rows(Path(module).with_suffix(".csv"))


@cache
def function_of(package: str, text: str) -> Callable[..., Any]:
    """Return the function that a table names: ``module.function``, in a module of a package.

    Whole numbers that follow the name are passed to it after all other arguments.
    """
    name, *numbers = text.split()
    module, _, function = name.rpartition(".")
    found: Callable[..., Any] = resolve_name(f"{package}.{module}:{function}")
    last = tuple(map(int, numbers))
    return (lambda *arguments: found(*arguments, *last)) if last else found


@cache
def coefficients() -> Mapping[str, float]:
    """Return the coefficients of the predicted time by name."""
    return {row["name"]: float(row["value"]) for row in rows(COEFFICIENTS)}
