"""Reports and traces from files."""

from __future__ import annotations

import os
from pathlib import Path

from torchgauge.errors import ReportFormatError
from torchgauge.facts.report import Report, report_from_json
from torchgauge.facts.trace import TRACE_HEADER, Trace

_TRACES = TRACE_HEADER.rpartition(b" ")[0]
"""How a file with a trace of any version begins."""
_JSON = ("{", "[", '"', "null", "true", "false", "-", "NaN", *"0123456789")
"""How JSON begins."""


def load_answer(path: str | os.PathLike[str]) -> Report | Trace:
    """Read a report or a trace, each as its ``save`` wrote it.

    Raises:
        ReportFormatError: there is no such file, it is damaged, or of an unknown version.
    """
    data = _bytes(path)
    return _trace(data, path) if data.startswith(_TRACES) else _report(data, path)


def _bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ReportFormatError(f"cannot read {path}: {reason}", hint="check the path") from error


def _report(data: bytes, path: str | os.PathLike[str]) -> Report:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    if not text.lstrip().startswith(_JSON):
        raise ReportFormatError(
            f"{path} is neither a report in JSON nor a saved trace",
            hint="save it again, with report.save(…) or report.trace.save(…)",
        )
    try:
        return report_from_json(text)
    except ReportFormatError as error:
        raise ReportFormatError(f"{path}: {error.message}", hint=error.hint) from error


def _trace(data: bytes, path: str | os.PathLike[str]) -> Trace:
    try:
        return Trace.unpacked(data)
    except ReportFormatError as error:
        raise ReportFormatError(f"{path}: {error.message}", hint=error.hint) from error
