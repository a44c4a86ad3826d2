"""A project's history: a SQLite file beside it, made on request, with a row per analysis."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import zstandard

from torchgauge.errors import ReportFormatError, UsageError
from torchgauge.facts.report import Report, report_from_json

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
_BUSY = ("locked", "busy")
_NOT_ALLOWED = ("readonly", "unable to open", "permission")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One analysis as it is kept."""

    number: int
    at: str
    revision: str
    is_dirty: bool
    spec: str
    report: Report


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
    rows = rows_of(path, spec=spec, most=1)
    if not rows:
        raise UsageError(
            f"the history holds nothing of {spec}", hint="analyse it once, then compare"
        )
    return rows[0].report


def rows_of(path: Path, *, spec: str | None = None, most: int | None = None) -> list[Row]:
    """Return what a history holds, the oldest first: of one model, or the last ones alone.

    Raises:
        UsageError: the file is not a history, or damaged.
    """
    where, values = ("WHERE spec = ?", (spec,)) if spec is not None else ("", ())
    with _opened(path) as database:
        found = database.execute(
            f"SELECT number, at, revision, is_dirty, spec, report FROM analyses {where} "
            "ORDER BY number DESC LIMIT ?",
            (*values, -1 if most is None else most),
        ).fetchall()
    return [
        Row(
            number=number, at=at, revision=revision, is_dirty=bool(is_dirty), spec=of,
            report=_unpacked(path, number, packed),
        )
        for number, at, revision, is_dirty, of, packed in reversed(found)
    ]  # fmt: skip


def _unpacked(path: Path, number: int, packed: bytes) -> Report:
    try:
        return report_from_json(zstandard.decompress(packed).decode())
    except (zstandard.ZstdError, ReportFormatError, ValueError, TypeError) as error:
        raise UsageError(
            f"analysis {number} in {path} cannot be read: {error}", hint=_move_away(path)
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction; several programs may write to it at once."""
    try:
        with closing(sqlite3.connect(path, timeout=30)) as database, database:
            yield database
    except sqlite3.Error as error:
        raise UsageError(
            f"the history {path} cannot be used: {error}", hint=_hint(path, str(error).lower())
        ) from error


def _hint(path: Path, error: str) -> str:
    if any(word in error for word in _BUSY):
        return "another program writes to it; try again when that has ended"
    if any(word in error for word in _NOT_ALLOWED):
        return "allow this user to write to the file and to its folder"
    if "full" in error:
        return "make room on the disk"
    return _move_away(path)


def _move_away(path: Path) -> str:
    return f"move {path} away; torchgauge history --start then begins a new one"


def _revision(folder: Path) -> tuple[str, bool]:
    """Return the commit that is checked out, and whether files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()

    with suppress(OSError, subprocess.SubprocessError):
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    return "", False
