"""Answers and traces from files; which answer a JSON is, its names tell."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from torchgauge.errors import ReportFormatError
from torchgauge.facts.codec.wire import from_dict
from torchgauge.facts.report import Report, check_version, data_of_json, report_from_dict
from torchgauge.facts.trace import TRACE_HEADER, Trace

_TRACES = TRACE_HEADER.rpartition(b" ")[0]
"""How a file with a trace of any version begins."""
_JSON = ("{", "[", '"', "null", "true", "false", "-", "NaN", *"0123456789")
"""How JSON begins."""


@dataclass(frozen=True, slots=True)
class Kind:
    """An answer that is written as JSON."""

    place: str
    """``"package.module:Class"``, imported where such a JSON is read."""
    called: str
    """For a message."""
    names: frozenset[str]
    """They tell it from the others, and an older version wrote them too."""


def _kind(place: str, called: str, *names: str) -> Kind:
    return Kind(f"torchgauge.{place}", called, frozenset(names))


KINDS: Final = (
    _kind("facts.fit:FitReport", "the answer of fits", "devices", "breakdown"),
    _kind("facts.fit:BatchCurve", "a curve of batch sizes", "device", "knee", "points"),
    _kind("facts.loop.advice:Advice", "advice", "suggestions", "faults"),
    _kind("facts.loop.comparison:Comparison", "a comparison", "model_before", "model_after"),
    _kind("facts.loop.check:CheckReport", "the answer of check", "config", "models"),
    _kind("facts.loop.history:History", "a history", "analyses"),
    _kind("facts.loop.oom:OomExplanation", "the explanation of an OOM", "message", "remedies"),
    _kind("facts.loop.checkpoints:CheckpointPlan", "a checkpoint plan", "recomputed", "blocks"),
    _kind("facts.explanation:Explanation", "the explanation of a figure", "contributions", "place"),
    _kind("facts.time:TimeComparison", "a comparison of times", "predicted_on", "measured_on"),
    _kind("environment.findings:Diagnosis", "the answer of doctor", "findings", "facts"),
)
"""Every answer but the report, whose damage is told in detail."""
_TABLES: Final = (
    (frozenset({"devices", "local_gpus"}), "a list of devices"),
    (frozenset({"file", "device"}), "a measured device"),
    (frozenset({"folder", "signature", "comparisons"}), "the record of a package"),
)
"""JSON that commands write and `load` does not open, by the names of its fields."""


def load_answer(path: str | os.PathLike[str]) -> Any:
    """Read an answer or a trace, each as its ``save`` or ``--format json`` wrote it.

    Raises:
        ReportFormatError: there is no such file, it is damaged, or of an unknown version.
    """
    data = _bytes(path)
    return _trace(data, path) if data.startswith(_TRACES) else _answer(data, path)


def load_step(path: str | os.PathLike[str]) -> Report | Trace:
    """Read a report or a trace, where no other answer will do.

    Raises:
        ReportFormatError: there is no such file, it is damaged, or another answer.
    """
    found = load_answer(path)
    if not isinstance(found, Report | Trace):
        raise ReportFormatError(
            f"{path}: this is {_name_of(found)}, not a report",
            hint="name a file that summary --format json or report.save(…) wrote",
        )
    return found


def _bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ReportFormatError(f"cannot read {path}: {reason}", hint="check the path") from error


def _answer(data: bytes, path: str | os.PathLike[str]) -> Any:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    if not text.lstrip().startswith(_JSON):
        raise ReportFormatError(
            f"{path} is neither an answer in JSON nor a saved trace",
            hint="save it again, with report.save(…) or report.trace.save(…)",
        )
    try:
        return answer_of(data_of_json(text))
    except ReportFormatError as error:
        raise ReportFormatError(f"{path}: {error.message}", hint=error.hint) from error


def _trace(data: bytes, path: str | os.PathLike[str]) -> Trace:
    try:
        return Trace.unpacked(data)
    except ReportFormatError as error:
        raise ReportFormatError(f"{path}: {error.message}", hint=error.hint) from error


def answer_of(data: object) -> Any:
    """Return the answer that ``to_dict`` made ``data`` from.

    Raises:
        ReportFormatError: it is none, is damaged, or of another version.
    """
    there = set(data) if isinstance(data, dict) else set[str]()
    for kind in KINDS:
        if kind.names <= there:
            assert isinstance(data, dict)
            check_version(data.get("schema_version", 1))  # curves and times have none
            return from_dict(_type(kind), data)
    for names, called in _TABLES:
        if names <= there:
            raise ReportFormatError(
                f"this is {called}, not an answer", hint="read it as plain JSON, with json.load"
            )
    return report_from_dict(data)


def _name_of(answer: object) -> str:
    """Return what an answer that is not a report is called."""
    place = f"{type(answer).__module__}:{type(answer).__qualname__}"
    return next((kind.called for kind in KINDS if kind.place == place), type(answer).__name__)


def _type(kind: Kind) -> type:
    module, _, name = kind.place.partition(":")
    found: type = getattr(import_module(module), name)
    return found
