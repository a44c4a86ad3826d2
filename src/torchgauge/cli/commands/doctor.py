"""``torchgauge doctor``: what is wrong with this environment, and what repairs it."""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from pathlib import Path

from torchgauge.cli import options, output
from torchgauge.environment import Diagnosis, Severity, Surroundings, diagnose
from torchgauge.errors import UsageError

_FORMATS = ("text", "json", "markdown")
_LAYOUT = ("width", "ascii", "color")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    group = parser.add_argument_group("what is examined")
    group.add_argument(
        "--python", metavar="FILE", help="another interpreter than the one that runs torchgauge"
    )
    group.add_argument(
        "--no-checks", action="store_true", help="compute nothing; look at versions and settings"
    )
    group.add_argument("--require-gpu", action="store_true", help="exit 1 when no GPU can be used")
    group.add_argument(
        "--timeout",
        type=options.positive_integer,
        default=120,
        metavar="SECONDS",
        help="the longest that one step may take (default 120)",
    )
    table = parser.add_argument_group("layout")
    table.add_argument("--ascii", action="store_true", help="ASCII characters alone")
    table.add_argument(
        "--width", type=options.positive_integer, metavar="N", help="characters per line"
    )
    table.add_argument(
        "--color", type=options.one_of(("auto", "always", "never")), metavar="WHEN",
        help="auto (default; NO_COLOR is honoured), always or never",
    )  # fmt: skip
    result = parser.add_argument_group("output")
    result.add_argument(
        "--format", type=options.one_of(_FORMATS), metavar="NAME", help=", ".join(_FORMATS)
    )
    result.add_argument(
        "--output", metavar="FILE", type=Path, help="write there; its suffix chooses the format"
    )
    result.add_argument("--strict", action="store_true", help="exit 1 for warnings too")
    result.add_argument("--quiet", action="store_true", help="no notes on stderr")
    result.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(arguments: argparse.Namespace) -> int:
    """Examine, print, and return 1 when something is wrong.

    Raises:
        UsageError: an option without meaning in the format, no such interpreter, or no folder.
    """
    format = output.chosen_format(arguments)
    if format not in _FORMATS:
        raise UsageError(f"doctor has no format {format}", hint=f"one of {', '.join(_FORMATS)}")
    _check_layout(arguments, format)
    python = _interpreter(arguments.python)
    try:
        surroundings = Surroundings.here(python=python, time_limit_s=float(arguments.timeout))
    except FileNotFoundError:
        raise UsageError(
            "the folder that this shell is in was removed", hint="cd to one that is there"
        ) from None
    if not arguments.quiet and sys.stderr.isatty():
        print("examining; importing torch and computing take some seconds …", file=sys.stderr)
    diagnosis = diagnose(
        surroundings,
        with_checks=not arguments.no_checks,
        require_gpu=arguments.require_gpu,
    )
    output.deliver(_rendered(diagnosis, format, arguments), arguments.output)
    return _status(diagnosis, strict=arguments.strict)


def _status(diagnosis: Diagnosis, *, strict: bool) -> int:
    if not diagnosis.is_healthy:
        return 1
    return int(strict and bool(diagnosis.of(Severity.WARNING)))


def _interpreter(given: str | None) -> str | None:
    if given is None:
        return None
    found = shutil.which(given)
    if found is None:
        raise UsageError(
            f"there is no program {given}", hint="name a Python, such as .venv/bin/python"
        )
    # Not resolved further: a virtual environment's python is a link, and its place matters.
    return str(Path(found).absolute())


def _check_layout(arguments: argparse.Namespace, format: str) -> None:
    for key in _LAYOUT:
        if format != "text" and getattr(arguments, key):
            raise UsageError(
                f"--{key} has no meaning in {format}", hint="leave it out, or use --format text"
            )


def _rendered(diagnosis: Diagnosis, format: str, arguments: argparse.Namespace) -> str:
    from torchgauge.environment.documents import render_json, render_markdown
    from torchgauge.environment.text import render_text
    from torchgauge.render.terminal import terminal_options

    if format == "json":
        return render_json(diagnosis)
    if format == "markdown":
        return render_markdown(diagnosis)
    target = sys.stdout if arguments.output is None else io.StringIO()
    chosen = terminal_options(
        target, width=arguments.width, ascii=arguments.ascii, color=arguments.color or "auto"
    )
    width = chosen["width"] or 80
    return render_text(diagnosis, width=width, ascii=chosen["ascii"], color=chosen["color"])
