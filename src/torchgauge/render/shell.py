"""The notebook that the program runs in, and what its current cell has shown. Imports no IPython.

A kernel (Jupyter, Colab, VS Code) draws rich answers. IPython in a terminal is a terminal.
"""

from __future__ import annotations

import sys
from typing import Any


class _Cell:
    """The answers that the running cell has shown."""

    def __init__(self) -> None:
        self.number = -1
        self.shown: list[object] = []

    def clear(self) -> None:
        """Forget them: the cell has ended, and nothing else should keep them alive."""
        self.shown.clear()


_CELL = _Cell()


def current_shell() -> Any:
    """Return IPython's shell, of a kernel or a terminal; ``None`` in plain Python."""
    ipython = sys.modules.get("IPython")
    get_shell = getattr(ipython, "get_ipython", None)
    return None if get_shell is None else get_shell()


def is_terminal_shell() -> bool:
    """Return whether this is IPython in a terminal."""
    shell = current_shell()
    return shell is not None and getattr(shell, "kernel", None) is None


def notebook_shell() -> Any:
    """Return the shell of a kernel whose cell is shown rich answers, ``None`` elsewhere.

    Where the standard output goes somewhere else, as in ``contextlib.redirect_stdout``, text is
    expected there. ``%%capture`` takes both.
    """
    shell = current_shell()
    if getattr(shell, "kernel", None) is None:
        return None
    publisher = getattr(shell, "display_pub", None)
    captures = type(publisher).__name__ == "CapturingDisplayPublisher"
    is_stdout_here = type(sys.stdout).__module__.partition(".")[0] == "ipykernel"
    return shell if captures or is_stdout_here else None


def mark_shown(answer: object) -> None:
    """Remember that the running cell has shown an answer, so that it is not shown as its value.

    Nothing is remembered in plain Python, or where the output went somewhere else.
    """
    shell = current_shell() if is_terminal_shell() else notebook_shell()
    if shell is None:
        return
    if _CELL.number != shell.execution_count:
        _CELL.clear()
        _CELL.number = shell.execution_count
    if not _CELL.shown:
        shell.events.register("post_execute", _forget)
    _CELL.shown.append(answer)


def is_shown(answer: object, *, as_value: bool = False) -> bool:
    """Return whether the running cell has shown an answer.

    ``as_value`` asks for a notebook that is about to show the value of the cell: IPython builds
    the message of that output then. ``display(answer)`` is a wish of the user and always shows.
    """
    shell = current_shell()
    if shell is None or _CELL.number != shell.execution_count:
        return False
    if as_value and not _is_value_shown(shell):
        return False
    return any(item is answer for item in _CELL.shown)


def _is_value_shown(shell: Any) -> bool:
    if type(sys.displayhook).__name__ == "CapturingDisplayHook":  # %%capture: no message is built
        return True
    return getattr(getattr(shell, "displayhook", None), "msg", None) is not None


def _forget() -> None:
    _CELL.clear()
    shell = current_shell()
    if shell is not None:
        shell.events.unregister("post_execute", _forget)
