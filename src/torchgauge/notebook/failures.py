"""What IPython prints for an error of ours: the message and the user's lines, not ours.

``%tb`` shows the whole traceback, and ``error.__traceback__`` holds it.
"""

from __future__ import annotations

import ast
import linecache
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType, TracebackType
from typing import Any, Final

from torchgauge.errors import ModelError, TorchGaugeError
from torchgauge.facts.report import Report
from torchgauge.notebook.line import LINE
from torchgauge.render.cells import WIDTH
from torchgauge.render.formats.text import TextFormat
from torchgauge.render.pages import page_of
from torchgauge.render.shell import current_shell, is_shown

_OTHERS: Final = frozenset({"torch", "torchgauge", "IPython", "ipykernel"})
"""Packages whose frames are of no use to someone whose model failed."""
_MOST_FRAMES: Final = 8
_MAGIC: Final = re.compile(r"get_ipython\(\)\.run_line_magic\(('\w+', '.*')\)$")
_BOLD, _DIM = "1", "2"


def lines_of(error: TorchGaugeError) -> list[str]:
    """Return what is printed for an error.

    While the error is handled, as where a cell fails, that is the short form. ``%tb`` asks later
    and gets the whole traceback.
    """
    shell = current_shell()
    if sys.exc_info()[1] is not error:
        return _whole(error, shell)
    report = error.report if isinstance(error, ModelError) else None
    table = [] if report is None or is_shown(report) else [_table(report)]
    # The table says what the layer got and what to try, here or where the cell has shown it.
    told = str(error) if report is None else error.message.partition("\n")[0]
    head = f"{_styled(type(error).__name__, _BOLD)}: {told}\n"
    end = _styled("%tb shows the whole traceback", _DIM)
    return [*table, head, *_places(error, shell), "", end]


def _whole(error: TorchGaugeError, shell: Any) -> list[str]:
    if shell is None:
        return traceback.format_exception(error)
    lines: list[str] = shell.InteractiveTB.structured_traceback(
        type(error), error, error.__traceback__, tb_offset=1
    )
    return lines


def _table(report: Report) -> str:
    """Return the report up to the layer that failed."""
    page = page_of(report)
    calm = replace(page, blocks=tuple(block for block in page.blocks if not block.detail))
    # Without colours: red on the red ground of an error cannot be read in a dark theme.
    return TextFormat(width=WIDTH, details=False).render(calm) + "\n"


def _places(error: TorchGaugeError, shell: Any) -> Iterator[str]:
    """Yield the user's lines: the one that asked, then those of the model."""
    frames = list(_frames(error))
    for frame, number in frames[:1] + frames[1:][-_MOST_FRAMES:]:
        code = frame.f_code
        where = f"{_place(code.co_filename, shell)}, line {number}"
        inside = "" if code.co_qualname == "<module>" else f", in {code.co_qualname}"
        yield _styled(where, _BOLD) + inside
        line = linecache.getline(code.co_filename, number, frame.f_globals).strip()
        if line:
            yield f"    {_MAGIC.sub(_as_typed, line)}"


def _as_typed(call: re.Match[str]) -> str:
    """Return a magic as it was typed, from what IPython makes of it."""
    name, line = ast.literal_eval(f"({call[1]})")
    return f"%{name} {line}"


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Yield the user's frames with their lines: where we were called, then where it failed."""
    yield from _users(error.__traceback__)
    cause, seen = error.__cause__, {id(error)}
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield from _users(cause.__traceback__)
        cause = cause.__cause__


def _users(start: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    for frame, number in traceback.walk_tb(start):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        is_of_others = package in _OTHERS or package in sys.stdlib_module_names
        if not is_of_others and frame.f_code.co_filename != LINE:  # the cell's line says it
            yield frame, number


def _place(filename: str, shell: Any) -> str:
    """Return the file, or the cell as IPython calls it: ``Cell In[3]``."""
    # IPython 7 has no such method, and puts the number of the cell into the name itself.
    naming = getattr(getattr(shell, "compile", None), "format_code_name", None)
    named = None if naming is None else naming(filename)
    return filename if named is None else " ".join(named)


def _styled(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m"
