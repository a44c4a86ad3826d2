"""Files that change, and the analyses that follow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torchgauge.facts.report import Report
from torchgauge.loop.fresh import Analysed, Fresh
from torchgauge.models.spec import SpecKind, parse_model_spec
from torchgauge.request import Request

_INTERVAL = 0.1
_SETTLED = 0.05
"""Seconds between looks at the files, and until one that is being written is read."""

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Earlier:
    """A version that could be analysed, and came before."""

    number: int
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One analysis of what the files held."""

    number: int
    """1 for the first."""
    changed: tuple[Path, ...]
    """The files that were saved before it."""
    analysed: Analysed
    seconds: float
    """From the save, or the start, to the figures."""
    first: Earlier | None
    """The first version that could be analysed; ``None`` where this is it, or there is none."""
    last: Earlier | None
    """The last one before this that could be analysed."""
    watched: int
    """How many files are looked at."""

    @property
    def report(self) -> Report | None:
        """Return the report; ``None`` where it could not be analysed to the end."""
        answered = self.analysed.answered
        return None if answered.error else answered.report


def versions(
    request: Request,
    *,
    fresh: Fresh | None = None,
    on_saved: Callable[[tuple[Path, ...]], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Version]:
    """Analyse now and after each save of the model's file or of what it imports.

    A file is looked at every tenth of a second; that works on every file system. ``on_saved`` is
    told of the files before they are analysed.
    """
    fresh = fresh or Fresh()
    files = set(_named(request))
    first: Earlier | None = None
    last: Earlier | None = None
    changed: tuple[Path, ...] = ()
    number = 0
    begun = clock()
    while True:
        seen, started = _stamps(files), clock()
        analysed = fresh.analysed(request)
        number += 1
        files |= set(analysed.files)
        version = Version(
            number=number, changed=changed, analysed=analysed, seconds=clock() - begun,
            first=first, last=last, watched=len(files),
        )  # fmt: skip
        yield version
        fresh.warm()
        if version.report is not None:
            last = Earlier(number, version.report)
            first = first or last
        seen = {**_first_seen(files, started), **seen}  # what was saved meanwhile is new
        while not (changed := _changed(files, seen)):
            if stopped():
                return
            sleep(_INTERVAL)
        on_saved(changed)
        sleep(_SETTLED)
        begun = min(max(_saved(changed), begun), clock())


def _named(request: Request) -> Iterable[Path]:
    assert request.spec is not None
    spec = parse_model_spec(request.spec, request.settings)
    if spec.kind is SpecKind.PYTHON_FILE or Path(spec.target).is_file():
        return [Path(spec.target).resolve()]
    return []


def _stamps(files: Iterable[Path]) -> dict[Path, Stamp | None]:
    return {path: _stamp(path) for path in files}


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:  # gone, or being replaced
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _first_seen(files: Iterable[Path], started: float) -> dict[Path, Stamp | None]:
    """Return the stamps of files that an analysis has found.

    One that was saved since it began is new: it may have been imported before.
    """
    stamps = _stamps(files)
    return {
        path: None if stamp and stamp[0] / 1e9 >= started else stamp
        for path, stamp in stamps.items()
    }


def _changed(files: Iterable[Path], seen: dict[Path, Stamp | None]) -> tuple[Path, ...]:
    now = _stamps(files)
    return tuple(sorted(path for path, stamp in now.items() if stamp and stamp != seen.get(path)))


def _saved(paths: Iterable[Path]) -> float:
    """Return when the first of the files was saved."""
    stamps = (_stamp(path) for path in paths)
    return min((stamp[0] / 1e9 for stamp in stamps if stamp), default=0.0)


def named(paths: Iterable[Path]) -> tuple[str, ...]:
    """Return files as a user in this folder names them."""
    here = Path.cwd()
    return tuple(str(p.relative_to(here) if p.is_relative_to(here) else p) for p in paths)
