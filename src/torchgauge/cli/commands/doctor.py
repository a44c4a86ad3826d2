"""``torchgauge doctor``: what is wrong with this environment, and what repairs it."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from torchgauge.cli import options, output
from torchgauge.environment import Severity, Surroundings, diagnose
from torchgauge.errors import UsageError
from torchgauge.language import translated


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
    output.add_output_options(parser, strict="exit 1 for warnings too")


def run(arguments: argparse.Namespace) -> int:
    """Examine, print, and return 1 when something is wrong.

    Raises:
        UsageError: an option without meaning in the format, no such interpreter, or no folder.
    """
    target = output.chosen_output(arguments)
    python = _interpreter(arguments.python)
    try:
        surroundings = Surroundings.here(python=python, time_limit_s=float(arguments.timeout))
    except FileNotFoundError:
        raise UsageError(
            "the current folder was removed", hint="change to an existing one"
        ) from None
    if not arguments.quiet and sys.stderr.isatty():
        text = "examining; importing torch and computing take some seconds …"
        print(translated(text), file=sys.stderr)
    diagnosis = diagnose(
        surroundings,
        with_checks=not arguments.no_checks,
        require_gpu=arguments.require_gpu,
    )
    from torchgauge.environment.page import doctor_page

    target.deliver(lambda: doctor_page(diagnosis), diagnosis.to_json)
    is_doubtful = arguments.strict and bool(diagnosis.of(Severity.WARNING))
    return int(is_doubtful or not diagnosis.is_healthy)


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
