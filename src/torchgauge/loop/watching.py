"""Files that change, and the analyses that follow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torchgauge.facts.report import Report
from torchgauge.loop.fresh import Analysed, Fresh
from torchgauge.models.spec import SpecKind, parse_model_spec
from torchgauge.request import Request

_INTERVAL = 0.1
_SETTLED = 0.05
"""Seconds between looks at the files, and until one that is being written is read."""

Stamp = tuple[int, int, int]


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
    first: Report | None
    """The first version that could be analysed; ``None`` where this is it, or there is none."""
    last: Report | None
    """The one before this."""
    watched: int
    """How many files are looked at."""


def versions(
    request: Request,
    *,
    fresh: Fresh | None = None,
    stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Version]:
    """Analyse now and after each save of the model's file or of what it imports.

    A file is looked at every tenth of a second; that works on every file system.
    """
    fresh = fresh or Fresh()
    files = set(_named(request))
    first: Report | None = None
    last: Report | None = None
    changed: tuple[Path, ...] = ()
    number = 0
    begun = clock()
    while True:
        seen = _stamps(files)
        analysed = fresh.analysed(request)
        number += 1
        files |= set(analysed.files)
        yield Version(
            number=number, changed=changed, analysed=analysed, seconds=clock() - begun,
            first=first, last=last, watched=len(files),
        )  # fmt: skip
        report = analysed.answered.report
        if report is not None and not analysed.answered.error:
            first, last = first or report, report
        seen = {**_stamps(files), **seen}  # what was saved meanwhile is new
        while not (changed := _changed(files, seen)):
            if stopped():
                return
            sleep(_INTERVAL)
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


def _changed(files: Iterable[Path], seen: dict[Path, Stamp | None]) -> tuple[Path, ...]:
    now = _stamps(files)
    return tuple(sorted(path for path, stamp in now.items() if stamp and stamp != seen.get(path)))


def _saved(paths: Iterable[Path]) -> float:
    """Return when the first of the files was saved."""
    stamps = (_stamp(path) for path in paths)
    return min((stamp[0] / 1e9 for stamp in stamps if stamp), default=0.0)


def named(version: Version) -> Version:
    """Return a version whose files stand as a user in this folder names them."""
    here = Path.cwd()
    changed = (p.relative_to(here) if p.is_relative_to(here) else p for p in version.changed)
    return replace(version, changed=tuple(changed))
