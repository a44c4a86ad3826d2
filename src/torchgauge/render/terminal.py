"""What the place that text goes to can show: its width, its colours."""

from __future__ import annotations

import os
import shutil
from typing import IO, Any

_SMALLEST, _USUAL = 40, 80


def terminal_options(
    target: IO[str],
    *,
    width: int | None = None,
    ascii: bool = False,
    color: str = "auto",
    details: bool | None = None,
) -> dict[str, Any]:
    """Return the width, ASCII or not, colour or not, everything or the calm view.

    A terminal gives its own width. Anything else has none: a file or a pipe takes a table as it
    is. Text that cannot be encoded there becomes ASCII. ``color`` is ``auto`` (a terminal, unless
    ``NO_COLOR`` is set), ``always`` or ``never``. A terminal shows the calm view, a file or a pipe
    everything, unless ``details`` says otherwise.
    """
    is_terminal = bool(getattr(target, "isatty", lambda: False)())
    if width is None and is_terminal:
        width = max(shutil.get_terminal_size((_USUAL, 24)).columns, _SMALLEST)
    colored = color == "always" or (
        color == "auto" and is_terminal and not os.environ.get("NO_COLOR")
    )
    return {
        "width": width,
        "ascii": ascii or not _can_encode(target),
        "color": colored and os.environ.get("TERM") != "dumb",
        "details": not is_terminal if details is None else details,
    }


def _can_encode(target: IO[str]) -> bool:
    encoding = getattr(target, "encoding", None)
    if encoding is None:
        return True
    try:
        "├─└│×–µ".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
