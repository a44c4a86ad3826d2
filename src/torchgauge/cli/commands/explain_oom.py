"""``torchgauge explain-oom MODEL < message``: which layer ran out of memory, and what avoids it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.model_run import print_notes, request_from, user_code_prints_to_stderr
from torchgauge.cli.progress import Progress
from torchgauge.errors import CheckFailed, UsageError

_LARGEST = 64 << 20
"""Bytes of a text that are read at most: a log may be long, a message is not."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser)
    scenario_options.add_scenario_options(parser)
    options.add_real_run_option(parser)
    group = parser.add_argument_group("error")
    group.add_argument(
        "--message",
        metavar="FILE",
        type=Path,
        help="the error's message, traceback or log; by default the standard input",
    )
    group.add_argument(
        "--no-changes",
        dest="changes",
        action="store_false",
        help="find the place alone, and trace no changes that would avoid the error",
    )
    output.add_output_options(parser, details=True)


def run(arguments: argparse.Namespace) -> int:
    """Print the explanation.

    Raises:
        CheckFailed: the error is not of this step.
        TorchGaugeError: whatever is wrong with the message, the request or the model.
    """
    request = request_from(arguments)
    target = output.chosen_output(arguments)
    text = _text(arguments.message)
    with user_code_prints_to_stderr(), Progress(enabled=not arguments.quiet) as progress:
        from torchgauge.models.requests import build_for, with_build
        from torchgauge.oom.engine import explain_message

        request = replace(request, on_progress=progress.update)
        made = build_for(request)
        answer = explain_message(with_build(request, made), text, changes=arguments.changes)
    if not arguments.quiet:
        print_notes(made)
    from torchgauge.render.pages.loop.oom import oom_page

    target.deliver(lambda: oom_page(answer), answer.to_json)
    if arguments.strict:
        output.check_doubts(
            [f"guessed: {text}" for text in answer.guesses]
            + [f"warning: {text}" for text in answer.warnings]
        )
    if not answer.matches:
        raise CheckFailed(
            "the error is not of this step", hint="give the batch, precision and optimizer that ran"
        )
    return 0


def _text(path: Path | None) -> str:
    """Return the message.

    Raises:
        UsageError: the file cannot be read, or nothing was given.
    """
    if path is None:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                "no message was given", hint="torchgauge explain-oom MODEL … < message.txt"
            )
        return sys.stdin.read(_LARGEST)
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror or error}", hint="name the file of the message"
        ) from error
