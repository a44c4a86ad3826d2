"""Each analysis in a process of its own, which finds torch imported already.

This process imports torch, and later what else the model's code needs from installed packages, but
never the model's code itself. Each analysis runs in a fork of it, so that code is read anew, and a
crash ends nothing but that analysis. Where there is no fork (Windows), each process starts bare.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

from torchgauge.facts.report import Report
from torchgauge.loop.worker import Answered, Task, attempt
from torchgauge.models.users_code import is_users
from torchgauge.request import Request

Draw = Callable[[Report], bytes]


_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """What came of one analysis."""

    answered: Answered
    files: tuple[Path, ...] = ()
    """The user's files that were imported for it."""
    modules: tuple[str, ...] = field(default=(), repr=False)
    """Modules of installed packages that it imported."""
    drawn: bytes = field(default=b"", repr=False)
    """What was drawn of the report; empty where nothing was to be, or the analysis failed."""


class Fresh:
    """Runs analyses one after the other, each in a process of its own.

    ``draw`` is called there with the report while it still has its trace: a report that comes back
    from a process has none.
    """

    def __init__(self, draw: Draw | None = None) -> None:
        self._draw = draw
        self._needed: tuple[str, ...] = ()
        self._context = _context()
        if self._context.get_start_method() == "fork":
            _import_torch()

    def analysed(self, request: Request) -> Analysed:
        """Build the model that the request's spec names, analyse it, and return what came of it."""
        mine, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_answer, args=(request, theirs, list(sys.path), self._draw), daemon=True
        )
        process.start()
        theirs.close()
        found: Analysed | None = None
        status: int | None = None
        try:
            found = mine.recv()
        except EOFError:
            process.join(_END_SECONDS)
            status = process.exitcode  # how it ended by itself, if it did
        finally:
            mine.close()
            process.kill()  # threads that the model's code has left may never end
            process.join()
        if found is None:
            found = Analysed(answered=Answered.of_ended(status))
        self._needed = found.modules
        return found

    def warm(self) -> None:
        """Import what the last analysis had to, so that the next one finds it; while nobody waits.

        PyTorch imports parts of itself, and sympy, where they are first used: over a second.
        """
        if self._context.get_start_method() == "fork":
            _import_modules(self._needed)
        self._needed = ()


def _context() -> BaseContext:
    can_fork = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    return multiprocessing.get_context("fork" if can_fork else "spawn")


def _import_torch() -> None:
    from torchgauge.models.torchvision_operators import define_missing_operators

    for name in ("torch", "torchgauge.analyze", "torchgauge.models.requests"):
        importlib.import_module(name)
    define_missing_operators()


def _import_modules(names: tuple[str, ...]) -> None:
    """Import what the next analysis will need; what fails here is tried again there."""
    for name in names:
        if name not in sys.modules:
            with suppress(Exception):
                importlib.import_module(name)


def _answer(request: Request, out: Connection, path: list[str], draw: Draw | None) -> None:
    """Analyse in this process, and send what came of it."""
    # Ctrl-C in the terminal reaches this process as well; the one that asks ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = path
    importlib.invalidate_caches()
    before = set(sys.modules)
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end
    os.dup2(sys.stdout.fileno(), 1)  # what the model's code prints is not part of the answer
    answered = attempt(Task(request=request, batch_names=draw is not None))
    files, modules = _imported(before)
    drawn = b""
    if draw is not None and answered.report is not None and not answered.error:
        drawn = draw(answered.report)
    out.send(Analysed(answered=answered, files=files, modules=modules, drawn=drawn))
    out.close()


def _imported(before: set[str]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Return the user's files, and the modules of installed packages, that were imported since."""
    files, modules = [], []
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None)
        if name in before or not isinstance(place, str):
            continue
        path = Path(place).resolve()
        if not is_users(path):
            modules.append(name)
        elif path.suffix == ".py":
            files.append(path)
    return tuple(files), tuple(modules)
