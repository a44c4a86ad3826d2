"""What was predicted for cases, and how far off that is, as lines of a table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
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
    forward_ms: float = 0.0
    """Of it, the forward and the loss."""

    @property
    def error(self) -> float:
        """Return predicted ÷ measured − 1."""
        return self.predicted_ms / self.case.measured_ms - 1

    @property
    def is_inside(self) -> bool:
        """Return whether the true time is within what the prediction states."""
        return abs(self.case.measured_ms / self.predicted_ms - 1) <= self.stated_error


def phases(found: Sequence[Result]) -> Iterator[str]:
    """Yield lines of the errors of forward and backward, where both were measured."""
    timed = [(result, result.case.forward_ms) for result in found if result.case.forward_ms]
    if not timed:
        return
    forward = [result.forward_ms / measured - 1 for result, measured in timed]
    backward = [
        (result.predicted_ms - result.forward_ms) / (result.case.measured_ms - measured) - 1
        for result, measured in timed
    ]
    for name, errors in (("forward", forward), ("backward", backward)):
        sizes = sorted(map(abs, errors))
        ninth = sizes[max(0, math.ceil(0.9 * len(sizes)) - 1)]
        worst = max(errors, key=abs)
        yield (
            f"| *{name} alone* | {len(sizes)} | {statistics.median(sizes):.1%} | "
            f"{statistics.fmean(sizes):.1%} | {ninth:.1%} | {worst:+.1%} |"
        )


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
