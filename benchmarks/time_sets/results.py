"""What was predicted for cases, and how far off that is, as lines of a table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.time_sets.cases import TimeCase

HEAD = (
    "| | figures | median | mean | 90th percentile | worst |",
    "|---|--:|--:|--:|--:|---|",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A case and what was predicted for it."""

    case: TimeCase
    predicted_ms: float
    stated_error: float
    """What the prediction says of itself."""

    @property
    def error(self) -> float:
        """Return predicted ÷ measured − 1."""
        return self.predicted_ms / self.case.measured_ms - 1


def row(what: str, found: Sequence[Result]) -> str:
    """Return a line of the table."""
    if not found:
        return f"| {what} | 0 | – | – | – | – |"
    errors = sorted(abs(result.error) for result in found)
    worst = max(found, key=lambda result: abs(result.error))
    ninth = errors[max(0, math.ceil(0.9 * len(errors)) - 1)]
    return (
        f"| {what} | {len(found)} | {statistics.median(errors):.1%} | "
        f"{statistics.fmean(errors):.1%} | {ninth:.1%} | {worst.error:+.1%} {worst.case.id} |"
    )
