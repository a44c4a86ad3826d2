"""The figures that advice is about, and what of them a change saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Suggestion
from torchgauge.facts.loop.comparison import Figure, figures_beside
from torchgauge.facts.query import named_figures
from torchgauge.facts.report import Report

FIGURES: Final = (
    "totals.params", "totals.param_bytes", "totals.forward_macs", "totals.total_flops",
    "memory.saved_activation_bytes", "memory.peak_allocated_bytes", "memory.device_bytes",
    "time.total_ms",
)  # fmt: skip
_GAINS: Final = (
    "totals.params", "totals.param_bytes", "totals.forward_macs", "memory.peak_allocated_bytes",
    "memory.device_bytes", "time.total_ms",
)  # fmt: skip
"""Those of which less is better for its own sake."""
_LEAST_GAIN: Final = 0.005
"""Share of a figure that a change saves at least, to be shown."""


def figures_of(report: Report) -> dict[str, float]:
    """Return the figures that a report holds."""
    return named_figures(report, FIGURES)


def side_by_side(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[Figure, ...]:
    """Return the figures of which either is there."""
    return figures_beside(before, after, FIGURES)


def best_gain(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Return the largest share of any figure that is saved."""
    shares = [
        1.0 - after[name] / before[name]
        for name in _GAINS
        if name in after and before.get(name)
    ]  # fmt: skip
    return max(shares, default=0.0)


def gains(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Return whether a change saves anything worth showing."""
    return best_gain(before, after) >= _LEAST_GAIN


def suggested(
    change: Change,
    subject: Subject,
    figures: tuple[Figure, ...],
    proof: tuple[str, ...] = (),
    *,
    with_code: bool = True,
) -> Suggestion:
    """Return what is shown of a change that was applied to a copy and traced.

    ``figures`` are those before and after, ``proof`` what was tried for real. Without ``with_code``
    the line of source is not looked for: it takes as long as tracing a small model.
    """
    return Suggestion(
        rule=change.rule,
        text=change.text,
        where=change.where,
        code=subject.code_of(change.where[0]) if change.where and with_code else "",
        why=change.why,
        accuracy=change.accuracy,
        cost=change.cost,
        source=change.source,
        figures=figures,
        proof=proof,
        snippet=change.snippet,
        settings=change.settings,
        scenario=change.scenario,
        batch=change.batch,
        keeps_state=change.keeps_state,
    )


def saved(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Return the share of a figure that is saved; negative where it grows."""
    now = before.get(name)
    return 1.0 - after.get(name, now) / now if now else 0.0


def price_of(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Return how many times as long a step takes, or its work where no time is known; 1.0 or more.

    >>> price_of({"time.total_ms": 10.0}, {"time.total_ms": 15.0})
    1.5
    """
    for name in ("time.total_ms", "totals.total_flops"):
        if before.get(name) and name in after:
            return max(after[name] / before[name], 1.0)
    return 1.0
