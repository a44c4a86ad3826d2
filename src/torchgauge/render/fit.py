"""The answer to "will it fit?" → ``str``, in each format. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping

from torchgauge.facts.fit import FitReport
from torchgauge.render.csv import safe
from torchgauge.render.fit_view import view_of
from torchgauge.render.page import render_page

FORMATS = ("text", "json", "markdown", "csv", "latex")


def render_fit(
    report: FitReport, format: str = "text", *, width: int = 80, ascii: bool = False
) -> str:
    """Return the answer as text of a format; ``width`` and ``ascii`` are for ``text``."""
    if format in _OF_REPORTS:
        return _OF_REPORTS[format](report)
    return render_page(view_of(report), format, width=width, ascii=ascii)


def _json(report: FitReport) -> str:
    return report.to_json()


def _csv(report: FitReport) -> str:
    """One row per device, traced batch and alternative; bytes and FLOPs as plain numbers."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("row", "name", "verdict", "device_bytes", "difference_bytes", "extra_flops"))
    for device in report.devices:
        writer.writerow(
            ("device", safe(device.device), device.verdict, device.device_bytes,
             device.headroom_bytes, "")
        )  # fmt: skip
    for tried in () if report.largest_batch is None else report.largest_batch.tried:
        writer.writerow(("batch", tried.size, tried.verdict, tried.device_bytes, "", ""))
    for item in report.alternatives:
        writer.writerow(
            ("alternative", safe(" + ".join(item.changes)), item.verdict, item.device_bytes,
             item.saved_bytes, item.extra_flops)
        )  # fmt: skip
    return stream.getvalue().rstrip("\n")


_OF_REPORTS: Mapping[str, Callable[[FitReport], str]] = {"json": _json, "csv": _csv}
"""Formats for programs: more than the page shows, and nothing rounded."""
