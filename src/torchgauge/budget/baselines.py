"""Reports that are committed, for later ones to be held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from torchgauge.compare.reports import compare_reports
from torchgauge.errors import ReportFormatError, UsageError
from torchgauge.facts.codec.files import write_atomically
from torchgauge.facts.io import load_step
from torchgauge.facts.report import Report

_OF_THE_TOOLS = ("PyTorch", "execution")
"""Settings that may differ: the figures are of the same question all the same."""


def write_baseline(path: Path, report: Report) -> None:
    """Write a report without the course of its memory, which nothing needs and git would keep.

    Raises:
        UsageError: the file cannot be written.
    """
    memory = report.memory and replace(report.memory, timeline=())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, replace(report, memory=memory).to_json(indent=1) + "\n")
    except OSError as error:
        raise UsageError(
            f"cannot write the baseline {path}: {error.strerror or error}",
            hint="choose another folder: baselines = … in [tool.torchgauge]",
        ) from error


def read_baseline(path: Path) -> Report:
    """Return a committed report.

    Raises:
        ReportFormatError: it cannot be read, or is a trace.
    """
    answer = load_step(path)
    if not isinstance(answer, Report):
        raise ReportFormatError(f"{path.name} is a trace, not a report", hint="write it again")
    return answer


def settings_changed(baseline: Report, report: Report) -> Iterator[str]:
    """Yield what the two were asked differently, so that their figures cannot be compared."""
    for setting in compare_reports(baseline, report).settings:
        if setting.name not in _OF_THE_TOOLS:
            yield f"{setting.name} {setting.before} → {setting.after}"
