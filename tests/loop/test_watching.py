"""Which saves are seen, and what each version is compared with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import report_builder as build
from torchgauge.loop.fresh import Analysed
from torchgauge.loop.watching import Version, named, versions
from torchgauge.loop.worker import Answered
from torchgauge.request import Request

GOOD = Answered(report=build.transformer(2))
BAD = Answered(error="boom", exit_status=3)


class Stand:
    """Stands in for the process that analyses: finds files, and saves others meanwhile."""

    def __init__(self, files: tuple[Path, ...], *steps: tuple[Answered, Path | None]) -> None:
        self._files, self._steps = files, iter(steps)

    def warm(self) -> None:
        """Do nothing: it imports nothing."""

    def analysed(self, _: Request) -> Analysed:
        answered, saved = next(self._steps)
        if saved is not None:
            save(saved)
        return Analysed(answered=answered, files=self._files)


def save(path: Path) -> None:
    other = path.with_suffix(".tmp")
    other.write_text("saved\n", encoding="utf-8")
    other.replace(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    pair = tmp_path / "net.py", tmp_path / "part.py"
    for path in pair:
        save(path)
        os.utime(path, (1e9, 1e9))
    return pair


def watch(
    files: tuple[Path, Path], *steps: tuple[Answered, Path | None], **options: Any
) -> Iterator[Version]:
    """Watch until nothing has changed for a while."""
    looks = iter(range(3))
    return versions(
        Request(spec=f"{files[0]}:Net"), fresh=Stand(files, *steps),  # type: ignore[arg-type]
        stopped=lambda: next(looks, None) is None, sleep=lambda _: None, **options,
    )  # fmt: skip


@pytest.mark.parametrize("number", [0, 1])
def test_what_is_saved_while_it_is_analysed_is_seen(files: tuple[Path, Path], number: int) -> None:
    first, second = watch(files, (GOOD, files[number]), (GOOD, None))
    assert first.changed == () and second.changed == (files[number],)


def test_what_is_saved_between_two_versions_is_seen(files: tuple[Path, Path]) -> None:
    told: list[tuple[Path, ...]] = []
    seen = watch(files, (GOOD, None), (GOOD, None), on_saved=told.append)
    next(seen)
    save(files[1])  # nothing has been looked at since the analysis
    assert next(seen).changed == (files[1],)
    assert told == [(files[1],)] and list(seen) == []


def test_nothing_is_analysed_twice(files: tuple[Path, Path]) -> None:
    assert len(list(watch(files, (GOOD, None)))) == 1


def test_broken_versions_are_compared_with_nothing(files: tuple[Path, Path]) -> None:
    part = files[1]
    found = list(watch(files, (GOOD, part), (BAD, part), (GOOD, part), (GOOD, None)))
    ends = [tuple(one and one.number for one in (v.first, v.last)) for v in found]
    assert ends == [(None, None), (1, 1), (1, 1), (1, 3)]
    assert [version.report is None for version in found] == [False, True, False, False]


def test_seconds_are_from_the_save(files: tuple[Path, Path]) -> None:
    def late(clock: Callable[[], float] = time.time) -> float:
        return clock() + 5

    seen = watch(files, (GOOD, None), (GOOD, None), clock=late)
    next(seen)
    save(files[0])
    assert 0 <= next(seen).seconds < 60


def test_files_are_named_as_seen_from_here(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files[0].parent)
    assert named((files[0], Path("/elsewhere/a.py"))) == ("net.py", "/elsewhere/a.py")
