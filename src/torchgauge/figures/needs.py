"""What a figure needs of a report, and what to do where it is not there."""

from __future__ import annotations

from torchgauge.errors import UsageError
from torchgauge.facts.pictures.step import Step
from torchgauge.facts.report import Report
from torchgauge.facts.trace import Trace
from torchgauge.reports import step_of


def step_for(report: Report, figure: str) -> Step:
    """Return what the report's step did.

    Raises:
        UsageError: nothing ran, or the report has no trace.
    """
    check_ran(report, figure)
    if report.trace is None:
        raise UsageError(
            f"{figure} needs the trace, and a loaded or measured report has none",
            hint='analyze the model again, or save the trace with report.trace.save("step.gauge") '
            'and take tg.estimate(tg.load("step.gauge"))',
        )
    return known_step(report.trace)


def known_step(trace: Trace) -> Step:
    """Return what a trace's step did; the last one is kept, as several figures are drawn of it."""
    for known, step in _last:
        if known is trace:
            return step
    step = step_of(trace)
    _last[:] = [(trace, step)]
    return step


_last: list[tuple[Trace, Step]] = []


def check_ran(report: Report, figure: str) -> None:
    """Refuse a report of a model that was not run.

    Raises:
        UsageError: nothing ran.
    """
    if report.memory is None:
        raise UsageError(
            f"{figure} needs a step, and the model was not run", hint="give an input size"
        )
