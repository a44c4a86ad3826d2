"""The two streams of the command line: stdout is the result's alone, stderr never fails."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import Any

_STDOUT, _STDERR = 1, 2


class _Forgiving:
    """A text stream that drops what cannot be written: messages are not worth failing for."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def close(self) -> None:
        """Stay open: a model that closes its standard output closes this."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def forgiving_stderr() -> Iterator[None]:
    """Let messages go nowhere while the context is open, where stderr is closed, full or gone.

    A closed stderr (``2>&-``) also gets its number back: else the next file that is opened would
    be taken for it.
    """
    before = sys.stderr
    if before is None:
        if not _is_open(_STDERR):
            _to_nowhere(_STDERR)
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # closed below
    stream = sys.stderr
    sys.stderr = _Forgiving(stream)
    try:
        yield
    finally:
        sys.stderr = before
        if before is None:
            stream.close()
        else:
            _give_up_if_broken(stream)


def _give_up_if_broken(stream: Any) -> None:
    """Point a stream that cannot be written at nothing: the last flush would fail the program."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            _to_nowhere(stream.fileno())


@contextlib.contextmanager
def stdout_kept_free() -> Iterator[None]:
    """Send what is printed to stderr while the context is open, by C code and children as well."""
    with contextlib.redirect_stdout(sys.stderr):
        kept = _redirect()
        try:
            yield
        finally:
            _flush()
            if kept is not None:
                os.dup2(kept, _STDOUT)
                os.close(kept)


def give_stdout_up() -> None:
    """Send what is printed from here on to stderr: the result has left, the program ends."""
    _flush()
    kept = _redirect()
    if kept is not None:
        os.close(kept)


def _redirect() -> int | None:
    """Point the descriptor of stdout at stderr's; return a copy of what it was, ``None`` if closed.

    Nothing is changed then: a file that the program has opened since may have its number.
    """
    if sys.__stdout__ is None:
        return None
    _flush()
    try:
        kept = os.dup(_STDOUT)
    except OSError:
        return None
    try:
        os.dup2(_STDERR, _STDOUT)
    except OSError:
        _to_nowhere(_STDOUT)
    return kept


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _flush() -> None:
    """Write out what Python and the C library hold back for stdout."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.__stdout__.flush()  # type: ignore[union-attr]  # None without a console
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
