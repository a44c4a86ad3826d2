"""How many Python functions a model's forwards call, those in PyTorch's files aside.

A module that looks up configurations, builds masks or wraps outputs spends its time in Python, not
in operators: the number of calls says how much. What PyTorch's functions take belongs to the
operators and modules that they are for, and what is imported on the way is imported once. The file
of a function decides: one of Python's library counts, whoever calls it. Those of threads do not:
a start that finds its thread running calls fewer than one that waits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from enum import Enum, auto
from importlib.util import find_spec
from pathlib import Path
from threading import get_ident
from types import FrameType
from typing import Any, Final, Protocol

_IMPORTING: Final = "<frozen importlib"
_THEIRS, _OURS, _IMPORT = range(3)
_COMPILED: Final = ("pybind11_detail_function_record", "PyCapsule")
"""What functions are bound to that pybind11 made, of its releases from 2025 on and before."""


class Counted(Protocol):
    """What calls are counted for."""

    python_calls: int


def _folder(package: str) -> str:
    found = find_spec(package)
    assert found is not None and found.origin is not None
    return str(Path(found.origin).parent) + os.sep


def _source(module: str) -> str:
    found = find_spec(module)
    assert found is not None and found.origin is not None
    return found.origin


_LEFT_OUT: Final = (
    _folder("torch"),
    _folder("torchgauge"),
    _folder("concurrent.futures"),
    _folder("multiprocessing"),
    _source("threading"),
    _source("queue"),
)
"""Where functions do not count: how many of them wait for a thread depends on the moment."""


class Counting(Enum):
    """What is done at a moment of a run."""

    OFF = auto()
    ON = auto()
    QUIET = auto()
    """Nothing is counted where nothing can be; what is called from there counts."""


class PythonCalls:
    """Counts calls for whatever is on top of a stack.

    It takes the place of ``sys.setprofile``; where a profiler has that, nothing is counted.
    """

    def __init__(self, stack: Sequence[Counted]) -> None:
        self._stack = stack
        self.is_on = False
        """Whether calls are counted in some thread."""
        self._state = Counting.OFF
        self._thread = 0
        """Where it was started: a profile is that of one thread."""
        self._importing = 0
        self._kinds: dict[str, int] = {}
        """By the file of the code."""
        self._compiled: dict[type, bool] = {}
        """Whether functions that are bound to a class are pybind11's."""
        self.on_compiled: Callable[[Any, FrameType], None] | None = None
        """Called before each function that pybind11 made; it may raise."""

    def start(self, counting: Counting) -> None:
        """Begin to count, unless another profiler is there."""
        if sys.getprofile() is None:
            self._thread = get_ident()
            self._importing = 0
            self.resume(counting)

    def pause(self) -> Counting:
        """Count nothing from here on; return what was done until here."""
        before = self._state
        if before is Counting.OFF or get_ident() != self._thread:
            return Counting.OFF
        if before is Counting.ON:
            sys.setprofile(None)
            self.is_on = False
        self._state = Counting.OFF
        return before

    def resume(self, state: Counting) -> None:
        """Do again what was done before a pause."""
        if state is Counting.OFF:
            return
        self._state = state
        if state is Counting.ON:
            self.is_on = True
            sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call":
            owner = type(getattr(called, "__self__", None))
            is_compiled = self._compiled.get(owner)
            if is_compiled is None:
                is_compiled = self._compiled[owner] = owner.__name__.startswith(_COMPILED)
            if is_compiled and self.on_compiled is not None:
                self.on_compiled(called, frame)
        elif event == "call":
            kind = self._kinds.get(frame.f_code.co_filename)
            if kind is None:
                kind = self._kind(frame.f_code.co_filename)
            if kind == _OURS:
                return
            if kind == _IMPORT:
                self._importing += 1
            elif not self._importing and self._stack:
                self._stack[-1].python_calls += 1
        elif self._importing and event == "return":
            self._importing -= self._kind(frame.f_code.co_filename) == _IMPORT

    def _kind(self, file: str) -> int:
        kind = self._kinds.get(file)
        if kind is None:
            ours = file.startswith(_LEFT_OUT)
            kind = _IMPORT if file.startswith(_IMPORTING) else _OURS if ours else _THEIRS
            self._kinds[file] = kind
        return kind
