"""What the watch tells its page: a save, and what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from torchgauge.facts.loop.comparison import Comparison
from torchgauge.facts.report import Report
from torchgauge.loop.watching import Version, named
from torchgauge.web.data import answer_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Files were saved; they are being analysed."""

    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """Which version it is, and when it came."""

    number: int
    files: tuple[str, ...]
    """Those that were saved; none for the first version."""
    at: str
    """The time of the day here: ``"12:03:11"``."""
    seconds: float
    """From the save to the figures."""
    watched: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    """A version that could be analysed."""

    heading: Heading
    answer: bytes
    """``answer_data`` of its report, as JSON."""
    layers: Mapping[int, bytes] = field(default_factory=dict)
    """By the version that it is compared with: the layers that differ, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A version that could not be analysed."""

    heading: Heading
    error: str
    hint: str
    exit_status: int


Told: TypeAlias = Saved | Good | Broken


def drawn(report: Report) -> bytes:
    """Return a report as the page takes it; for the process that has its trace."""
    return json.dumps(answer_data(report), separators=(",", ":"), allow_nan=False).encode()


def told_of(version: Version, since: Mapping[int, Comparison]) -> Good | Broken:
    """Return what the page is told of a version.

    Args:
        version: what came of a save.
        since: by the number of an earlier version, what changed from it.
    """
    heading = Heading(
        number=version.number,
        files=named(version.changed),
        at=time.strftime("%H:%M:%S"),
        seconds=version.seconds,
        watched=version.watched,
    )
    answered = version.analysed.answered
    if not version.analysed.drawn:
        return Broken(
            heading=heading,
            error=answered.error,
            hint=answered.hint,
            exit_status=answered.exit_status,
        )
    layers = {number: _layers(change) for number, change in since.items()}
    return Good(heading=heading, answer=version.analysed.drawn, layers=layers)


def _layers(comparison: Comparison) -> bytes:
    return json.dumps(comparison.to_dict()["layers"], separators=(",", ":")).encode()
