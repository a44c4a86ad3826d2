"""The ``torchgauge`` entry point: find the command, run it, turn errors into exit statuses.

====  ==========================================================================
0     fine
1     a check failed (does not fit, over the budget)
2     bad usage or bad input
3     the model itself failed; what ran before that is printed all the same
4     ``--strict``, and something was not counted or guessed
70    a bug in torchgauge
130   interrupted (Ctrl-C)
141   the reader of the output went away (``| head``), as for any Unix program
====  ==========================================================================
"""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import sys
import textwrap
import traceback
from collections.abc import Sequence
from typing import NoReturn

from torchgauge.cli.commands import COMMANDS
from torchgauge.cli.output import close_stdout
from torchgauge.cli.streams import forgiving_stderr, give_stdout_up
from torchgauge.errors import ModelError, TorchGaugeError, UsageError
from torchgauge.models.suggest import did_you_mean

PROGRAM = "torchgauge"
INTERNAL_ERROR_STATUS = 70
INTERRUPTED_STATUS = 130
BROKEN_PIPE_STATUS = 141
_SMALLEST_WIDTH = 40
_DEPENDENCIES = ("msgspec", "rich")

_MODEL_STATUSES = (
    "exit status: 0 fine, 1 does not fit, over budget or a check failed, 2 bad usage or input, "
    "3 the model itself failed, 4 --strict and something was not counted or guessed"
)
_EXIT_STATUSES = {
    "doctor": "exit status: 0 fine, 1 an error was found (--strict: or a warning), 2 bad usage",
    "devices": "exit status: 0 fine, 2 bad usage, 4 --strict and a figure follows from a rule",
    "ui": "exit status: 0 stopped by SIGTERM or Ctrl-C, 2 bad usage or input, 3 a model failed",
    "serve": "exit status: 0 stopped by SIGTERM or Ctrl-C, 2 bad usage or input",
}


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ``UsageError``."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; never raises for what a user did."""
    with forgiving_stderr():
        status = _status(list(sys.argv[1:] if argv is None else argv))
        if argv is None:  # what the model's code prints at exit is not part of the result
            give_stdout_up()
        return status


def _status(arguments: list[str]) -> int:
    search_path = list(sys.path)
    try:
        status = _dispatch(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except SystemExit as stop:  # --help and --version
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED_STATUS
    except BrokenPipeError:
        close_stdout()
        return BROKEN_PIPE_STATUS
    except TorchGaugeError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        _say(f"error: {error}")
        return error.exit_status
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        if isinstance(error, ModuleNotFoundError) and error.name in _DEPENDENCIES:
            _say(f"error: {error.name} is not installed\n  try: pip install {error.name}")
            return UsageError.exit_status
        _say(
            f"internal error: {type(error).__name__}: {error}\n"
            "  this is a bug in torchgauge; please report it with the output of --debug"
        )
        return INTERNAL_ERROR_STATUS
    except BaseException as stop:  # the model's code raised something that is not an Exception
        if "--debug" in arguments:
            traceback.print_exc()
        _say(
            f"error: the model's code raised {type(stop).__name__}: {stop}\n"
            "  try: raise an Exception; add --debug for the whole traceback"
        )
        return ModelError.exit_status
    finally:
        sys.path[:] = search_path


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        return _without_command(arguments)
    name, *rest = arguments
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}", hint=_command_hint(name, rest))
    command = importlib.import_module(f"torchgauge.cli.commands.{name}")
    parser = _Parser(
        prog=f"{PROGRAM} {name}",
        description=_wrapped(COMMANDS[name]),
        epilog=_wrapped(_EXIT_STATUSES.get(name, _MODEL_STATUSES)),
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.configure(parser)
    namespace, unknown = parser.parse_known_args(_with_negative_values(rest))
    if unknown:
        known = re.findall(r"--[a-z][a-z-]*", parser.format_help())
        raise UsageError(
            f"unknown argument {unknown[0]!r}",
            hint=did_you_mean(unknown[0].split("=")[0], known, otherwise=f"{parser.prog} --help"),
        )
    status: int = command.run(namespace)
    return status


def _with_negative_values(arguments: list[str]) -> list[str]:
    """Join ``--input-size`` and ``-1,8``: argparse takes a word with a dash for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and re.fullmatch(r"--[a-z-]+", joined[-1]) and re.match(r"-\d", argument):
            joined[-1] = f"{joined[-1]}={argument}"
        else:
            joined.append(argument)
    return joined


def _without_command(arguments: list[str]) -> int:
    width = max(map(len, COMMANDS))
    commands = "\n".join(
        _wrapped(f"  {name:<{width}}  {text}", indent=" " * (width + 4))
        for name, text in COMMANDS.items()
    )
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} COMMAND [OPTION …]",
        description=_wrapped(
            "Says how big a PyTorch model is, whether it fits, and what costs most."
        ),
        epilog=(
            f"commands (each has its own --help):\n{commands}\n\n"
            f"example:\n  {PROGRAM} summary torchvision:resnet50 --input-size 3,224,224\n\n"
            f"{_wrapped(_MODEL_STATUSES)}"
        ),
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    namespace = parser.parse_args(arguments)
    if namespace.version:
        from torchgauge.version import __version__

        print(PROGRAM, __version__)
        return 0
    parser.print_help(sys.stderr)
    return 2


def _wrapped(text: str, indent: str = "") -> str:
    """Return a text of ``--help`` in lines as wide as the terminal, as argparse takes it."""
    width = max(shutil.get_terminal_size().columns - 2, _SMALLEST_WIDTH)
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False)


def _command_hint(name: str, rest: list[str]) -> str:
    if ":" in name or "." in name:  # a model spec without a command
        return f"{PROGRAM} summary {' '.join([name, *rest])}"
    listed = "one of " + ", ".join(COMMANDS)
    return did_you_mean(name, COMMANDS, otherwise=listed)


def _say(text: str) -> None:
    print(f"{PROGRAM}: {text}", file=sys.stderr)
