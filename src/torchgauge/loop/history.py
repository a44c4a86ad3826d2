"""A project's history: a SQLite file beside it, made on request, with a row per analysis."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zstandard

from torchgauge.errors import UsageError
from torchgauge.facts.loop.history import Analysis, History
from torchgauge.facts.precision import dtypes_of
from torchgauge.facts.report import Report, report_from_json
from torchgauge.render.pages.settings import settings
from torchgauge.version import __version__

FOLDER, NAME = ".torchgauge", "history.sqlite"
_TABLE = """
CREATE TABLE IF NOT EXISTS analyses (
    number INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    revision TEXT NOT NULL,
    is_dirty INTEGER NOT NULL,
    spec TEXT NOT NULL,
    report BLOB NOT NULL
)
"""
_HINT = "torchgauge history --start makes one in this folder"


def start(folder: Path) -> Path:
    """Make the history of the project in a folder; return its file.

    Raises:
        UsageError: the file cannot be made.
    """
    path = folder / FOLDER / NAME
    try:
        path.parent.mkdir(exist_ok=True)
        ignored = path.parent / ".gitignore"
        if not ignored.exists():
            ignored.write_text(f"{NAME}\n", encoding="utf-8")
        with _opened(path) as database:
            database.execute(_TABLE)
    except OSError as error:
        raise UsageError(
            f"cannot make {path}: {error.strerror}", hint="run it elsewhere"
        ) from error
    return path


def found(folder: Path) -> Path | None:
    """Return the history of the project that a folder lies in."""
    for place in (folder, *folder.parents):
        if (path := place / FOLDER / NAME).is_file():
            return path
    return None


def add(path: Path, report: Report) -> None:
    """Add a report to a history.

    Raises:
        UsageError: the file is not a history, or cannot be written.
    """
    revision, is_dirty = _revision(path.parent.parent)
    packed = zstandard.compress(report.to_json(indent=None).encode())
    at = datetime.now(UTC).isoformat(timespec="seconds")
    spec = report.model_spec or report.model_name
    with _opened(path) as database:
        database.execute(
            "INSERT INTO analyses (at, revision, is_dirty, spec, report) VALUES (?, ?, ?, ?, ?)",
            (at, revision, is_dirty, spec, packed),
        )


def last(path: Path, spec: str) -> Report:
    """Return the last report of a model.

    Raises:
        UsageError: there is none, or the file is not a history.
    """
    with _opened(path) as database:
        row = database.execute(
            "SELECT report FROM analyses WHERE spec = ? ORDER BY number DESC LIMIT 1", (spec,)
        ).fetchone()
    if row is None:
        raise UsageError(
            f"the history holds nothing of {spec}", hint="analyse it once, then compare"
        )
    return _unpacked(row[0])


def trend(path: Path, figure: str, *, spec: str | None = None, most: int | None = None) -> History:
    """Return the analyses of a project, or of one model, with a figure of each.

    Args:
        path: the history.
        figure: as in the JSON of a report: ``"totals.params"``.
        spec: the model; all of them by default.
        most: how many of the last ones; all of them by default.

    Raises:
        UsageError: no report has such a figure, or the file is not a history.
    """
    where, values = ("WHERE spec = ?", (spec,)) if spec is not None else ("", ())
    with _opened(path) as database:
        rows = database.execute(
            f"SELECT number, at, revision, is_dirty, spec, report FROM analyses {where} "
            "ORDER BY number DESC LIMIT ?",
            (*values, -1 if most is None else most),
        ).fetchall()
    analyses = tuple(_analysis(row, figure) for row in reversed(rows))
    if analyses and all(item.value is None for item in analyses):
        raise UsageError(
            f"none of these analyses holds a figure {figure!r}",
            hint="name one as in the JSON: totals.params, memory.peak_allocated_bytes, "
            "time.total_ms",
        )
    return History(tool_version=__version__, figure=figure, analyses=analyses)


def _analysis(row: tuple[Any, ...], figure: str) -> Analysis:
    report = _unpacked(row[5])
    value: Any = report
    for name in figure.split("."):
        value = getattr(value, name, None)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Analysis(
        number=row[0], at=row[1], revision=row[2], is_dirty=bool(row[3]), spec=row[4],
        model_name=report.model_name,
        settings=tuple(settings(report.scenario, dtypes_of(report))),
        batch_size=report.batch_size,
        value=value if is_number else None,
    )  # fmt: skip


def _unpacked(packed: bytes) -> Report:
    return report_from_json(zstandard.decompress(packed).decode())


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction; several programs may write to it at once."""
    try:
        with closing(sqlite3.connect(path, timeout=30)) as database, database:
            yield database
    except sqlite3.Error as error:
        raise UsageError(f"{path} cannot be used: {error}", hint=_HINT) from error


def _revision(folder: Path) -> tuple[str, bool]:
    """Return the commit that is checked out, and whether files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()

    with suppress(OSError, subprocess.SubprocessError):
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    return "", False
