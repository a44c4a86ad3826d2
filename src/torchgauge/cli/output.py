"""How a result leaves: the renderer that was asked for, then stdout or a file written whole."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgauge.cli.options import one_of, positive_integer
from torchgauge.errors import InDoubt, UsageError
from torchgauge.facts.codec.files import write_atomically
from torchgauge.facts.guess import guesses

if TYPE_CHECKING:
    from torchgauge.facts.fit import FitReport
    from torchgauge.facts.report import Report
    from torchgauge.render import Renderer

FORMATS: Mapping[str, tuple[str, ...]] = {
    "text": ("depth", "columns", "unfold", "ascii", "width", "color"),
    "json": (),
    "markdown": ("depth", "columns", "unfold"),
    "csv": ("depth", "columns", "unfold"),
    "latex": ("depth", "columns", "unfold"),
}
"""Each format of ``torchgauge.render`` with the options that have a meaning in it."""

_SUFFIXES = {
    ".txt": "text", ".log": "text", ".json": "json", ".md": "markdown", ".markdown": "markdown",
    ".csv": "csv", ".tex": "latex",
}  # fmt: skip

_SMALLEST_WIDTH = 40


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Declare what the result looks like and where it goes."""
    table = parser.add_argument_group("table")
    table.add_argument(
        "--depth", type=positive_integer, metavar="N", help="show modules down to this depth"
    )
    table.add_argument(
        "--columns", type=_names, metavar="NAME,…", help="the columns to show, in this order"
    )
    table.add_argument("--unfold", action="store_true", help="show every repeated block")
    table.add_argument("--ascii", action="store_true", help="no box-drawing characters")
    table.add_argument("--width", type=positive_integer, metavar="N", help="characters per line")
    table.add_argument(
        "--color", type=one_of(("auto", "always", "never")), default="auto", metavar="WHEN",
        help="auto (default; NO_COLOR is honoured), always or never",
    )  # fmt: skip
    output = parser.add_argument_group("output")
    output.add_argument("--format", type=one_of(FORMATS), metavar="NAME", help=", ".join(FORMATS))
    output.add_argument(
        "--output", metavar="FILE", type=Path, help="write there; its suffix chooses the format"
    )
    output.add_argument(
        "--strict",
        action="store_true",
        help="exit 4 when anything was not counted, guessed or warned about",
    )
    output.add_argument("--quiet", action="store_true", help="no notes and no progress on stderr")
    output.add_argument("--debug", action="store_true", help="show the traceback of an error")


def make_renderer(arguments: argparse.Namespace) -> Renderer:
    """Return the renderer that was asked for; checks ``--output`` too, before anything runs.

    Raises:
        UsageError: an option without meaning in the format, an unknown column, no such folder,
            or a suffix that says nothing.
    """
    name = chosen_format(arguments)
    options = _options(arguments, name)
    from torchgauge.render import get_renderer

    return get_renderer(name, **options)


def deliver(text: str, output: Path | None) -> None:
    """Print ``text``, or write it to ``output`` so that the file is whole or as it was.

    Raises:
        UsageError: the file, or the standard output, cannot be written.
    """
    if not text.endswith("\n"):
        text += "\n"
    if output is None:
        _print(text)
        return
    try:
        write_atomically(output, text)
    except OSError as error:
        raise UsageError(
            f"cannot write {output}: {error.strerror or error}", hint="choose another --output"
        ) from error


def check_strict(report: Report | FitReport) -> None:
    """Refuse a report that is incomplete, or of which a figure hangs on a guess.

    Assumptions that only say how the figures are made pass.

    Raises:
        InDoubt: lists what is in doubt.
    """
    lines = [f"not counted: {gap.op} ({gap.calls} ×): {gap.why}" for gap in report.not_counted]
    lines += [f"guessed: {text}" for text in guesses(report.assumptions)]
    lines += [f"warning: {text}" for text in report.warnings]
    if lines:
        listed = "".join(f"\n  {line}" for line in lines)
        raise InDoubt(f"--strict: the report is not free of doubt{listed}")


# ---------------------------------------------------------------------------- choices


def chosen_format(arguments: argparse.Namespace) -> str:
    """Return the format that ``--format`` or the suffix of ``--output`` asks for.

    Raises:
        UsageError: no such folder, or a suffix that says nothing.
    """
    output: Path | None = arguments.output
    if output is not None:
        if output.is_dir():
            raise UsageError(f"{output} is a folder", hint="name a file in it")
        if not output.parent.is_dir():
            raise UsageError(f"there is no folder {output.parent}", hint="make it first")
    if arguments.format is not None:
        return str(arguments.format)
    if output is None:
        return "text"
    suffix = output.suffix.lower()
    if suffix not in _SUFFIXES:
        raise UsageError(
            f"the name {output.name} does not say which format it wants",
            hint=f"end it in {', '.join(_SUFFIXES)}, or add --format",
        )
    return _SUFFIXES[suffix]


def page_options(arguments: argparse.Namespace, format: str) -> tuple[int, bool]:
    """Return the width of a page and whether it is of ASCII alone; for what is no module table.

    Raises:
        UsageError: an option without meaning in the format.
    """
    if format != "text":
        for key in ("width", "ascii"):
            if getattr(arguments, key):
                raise UsageError(
                    f"--{key} has no meaning in {format}",
                    hint="leave it out, or use --format text",
                )
        return 80, False
    from torchgauge.render.terminal import terminal_options

    target = sys.stdout if arguments.output is None else io.StringIO()
    chosen = terminal_options(target, width=arguments.width, ascii=arguments.ascii)
    return chosen["width"] or 80, chosen["ascii"]


def _options(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    given = {
        key: value
        for key in ("depth", "columns", "unfold", "ascii", "width")
        if (value := getattr(arguments, key))
    }
    for key in given:
        if key not in FORMATS[name]:
            raise UsageError(
                f"--{key} has no meaning in {name}", hint="leave it out, or use --format text"
            )
    if name != "text":
        return given
    if given.get("width", _SMALLEST_WIDTH) < _SMALLEST_WIDTH:
        raise UsageError(
            f"--width {given['width']} is too narrow for a table",
            hint=f"use {_SMALLEST_WIDTH} or more",
        )
    from torchgauge.render.terminal import terminal_options

    target = sys.stdout if arguments.output is None else io.StringIO()  # a file holds any character
    return {
        **given,
        **terminal_options(
            target, width=arguments.width, ascii=arguments.ascii, color=arguments.color
        ),
    }


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("name at least one column")
    return names


# ---------------------------------------------------------------------------- writing


def _print(text: str) -> None:
    if sys.stdout is None:  # closed by the shell: ``>&-``
        raise UsageError("the standard output is closed", hint="write to a file with --output")
    try:
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding or "ascii"
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        close_stdout()
        raise UsageError(
            f"cannot write to the standard output: {error.strerror or error}",
            hint="write to a file with --output",
        ) from error


def close_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not fail again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
