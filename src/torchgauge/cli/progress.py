"""Say on a terminal what is going on when it takes more than a moment."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from torchgauge.cli.messages import note
from torchgauge.language import translated

if TYPE_CHECKING:
    from rich.status import Status


_LONG = "real run"
"""What takes so long that it is said everywhere."""


_SILENCE = 15.0
"""Seconds after which it is said what is being done, where no status line can be."""


_BESIDE = 5
"""Cells of the turning mark, what follows the text, and the last cell, after which some wrap."""


class Progress:
    """Show a status line on stderr once ``delay`` seconds have passed; remove it at the end.

    When stderr is no terminal, nothing is shown but that a model is run for real, and what is
    being done after a long silence. Nothing at all is shown when ``enabled`` is false.
    """

    def __init__(self, *, enabled: bool = True, delay: float = 1.0) -> None:
        self._enabled = enabled and sys.stderr.isatty()
        self._notes = enabled and not self._enabled
        self._delay = delay
        self._text = translated("working")
        self._status: Status | None = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._finished = False
        self._said: set[str] = set()
        self._last = time.monotonic()

    def __enter__(self) -> Progress:
        if self._enabled:
            self._timer = threading.Timer(self._delay, self._show)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._finished = True
            if self._timer is not None:
                self._timer.cancel()
            if self._status is not None:
                self._status.stop()
                self._status = None

    def update(self, text: str) -> None:
        """Say what is being done now."""
        if self._notes and self._is_worth_a_line(text):
            note(text)
        with self._lock:
            self._text = translated(text)
            if self._status is not None:
                self._status.update(_line(self._text, self._status.console.width))

    def _is_worth_a_line(self, text: str) -> bool:
        """Return whether to say it where no status line can be: once, or after a long silence."""
        now = time.monotonic()
        if text.startswith(_LONG):
            is_new = text not in self._said
            self._said.add(text)
            return is_new
        if now - self._last < _SILENCE:
            return False
        self._last = now
        return True

    def _show(self) -> None:
        from rich.console import Console

        with self._lock:
            if not self._finished:
                console = Console(stderr=True)
                self._status = console.status(_line(self._text, console.width))
                self._status.start()


def _line(text: str, width: int) -> str:
    """Return what is being done as one line of a terminal that is so wide.

    A line that wraps is not wiped out as a whole in every terminal.
    """
    from rich.markup import escape

    from torchgauge.render.layout import one_line, shorten

    return f"{escape(shorten(one_line(text), max(width - _BESIDE, 1), '…'))} …"
