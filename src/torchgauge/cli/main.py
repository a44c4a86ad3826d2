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
import os
import re
import sys
import traceback
from collections.abc import Sequence

from torchgauge import language
from torchgauge.cli.commands import COMMANDS
from torchgauge.cli.help import Parser, wrapped
from torchgauge.cli.messages import PROGRAM, language_of, say, say_error
from torchgauge.cli.modules import module_of
from torchgauge.cli.options import one_of
from torchgauge.cli.output import close_stdout
from torchgauge.cli.streams import forgiving_stderr, give_stdout_up
from torchgauge.errors import ModelError, TorchGaugeError, UsageError
from torchgauge.language import LANGUAGES, translated
from torchgauge.models.suggest import did_you_mean

INTERNAL_ERROR_STATUS = 70
INTERRUPTED_STATUS = 130
BROKEN_PIPE_STATUS = 141
_DEPENDENCIES = ("msgspec", "rich")

_MODEL_STATUSES = (
    "exit status: 0 fine, 1 does not fit, over budget or a check failed, 2 bad usage or input, "
    "3 the model itself failed, 4 --strict and something was not counted or guessed"
)
_EXAMPLE = f"{PROGRAM} summary torchvision:resnet50 --input-size 3,224,224"
_RUN_STATUSES = (
    "exit status: 0 fine, 2 bad usage or input, 3 the model itself failed, 4 --strict "
    "and something was not counted or guessed"
)
_INPUT_STATUSES = "exit status: 0 fine, 2 bad usage or input"
_EXIT_STATUSES = {
    "summary": _RUN_STATUSES,
    "measure": _RUN_STATUSES,
    "compare": _RUN_STATUSES,
    "explain": _RUN_STATUSES,
    "watch": _INPUT_STATUSES,
    "history": _INPUT_STATUSES,
    "doctor": "exit status: 0 fine, 1 an error was found (--strict: or a warning), 2 bad usage",
    "devices": "exit status: 0 fine, 2 bad usage, 4 --strict and a figure follows from a rule",
    "advise": "exit status: 0 fine, 1 the goal is not reached or no patch was written, 2 bad "
    "usage or input, 3 the model itself failed, 4 --strict and something was not counted or "
    "guessed",
    "plan-checkpoints": "exit status: 0 fine, 1 no plan meets the goal, 2 bad usage or input, "
    "3 the model itself failed, 4 --strict and something was not counted or guessed",
    "ui": "exit status: 0 stopped by SIGTERM or Ctrl-C, 2 bad usage or input, 3 a model failed",
    "serve": "exit status: 0 stopped by SIGTERM or Ctrl-C, 2 bad usage or input",
    "mcp": "exit status: 0 the client went away, 2 bad usage, or the SDK is not installed",
    "completion": "exit status: 0 fine, 2 bad usage",
    "explain-oom": "exit status: 0 explained, 1 the error is of another step, 2 bad usage or "
    "input, 3 the model itself failed, 4 --strict and something was not counted or guessed",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; never raises for what a user did."""
    arguments = _command_first(list(sys.argv[1:] if argv is None else argv))
    with forgiving_stderr(), language.spoken(language_of(arguments, os.environ)):
        status = _status(arguments)
        if argv is None:  # what the model's code prints at exit is not part of the result
            give_stdout_up()
        return status


def _command_first(arguments: list[str]) -> list[str]:
    """Return the arguments with ``--lang NAME`` behind the command.

    >>> _command_first(["--lang", "zh", "fit", "net.py:Net"])
    ['fit', '--lang', 'zh', 'net.py:Net']
    """
    count = {"--lang": 2}.get(arguments[0], 0) if arguments else 0
    if arguments and arguments[0].startswith("--lang="):
        count = 1
    if not count or len(arguments) <= count or arguments[count] not in COMMANDS:
        return arguments
    return [arguments[count], *arguments[:count], *arguments[count + 1 :]]


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
        say("interrupted")
        return INTERRUPTED_STATUS
    except BrokenPipeError:
        close_stdout()
        return BROKEN_PIPE_STATUS
    except TorchGaugeError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        say_error(error)
        return error.exit_status
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        if isinstance(error, ModuleNotFoundError) and error.name in _DEPENDENCIES:
            say(f"error: {error.name} is not installed\n  try: pip install {error.name}")
            return UsageError.exit_status
        say(
            f"internal error: {type(error).__name__}: {error}\n"
            "  this is a bug in torchgauge; please report it with the output of --debug"
        )
        return INTERNAL_ERROR_STATUS
    except BaseException as stop:  # the model's code raised something that is not an Exception
        if "--debug" in arguments:
            traceback.print_exc()
        say(
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
    command = importlib.import_module(module_of(name))
    parser = Parser(
        prog=f"{PROGRAM} {name}",
        description=wrapped(translated(COMMANDS[name])),
        epilog=wrapped(translated(_EXIT_STATUSES.get(name, _MODEL_STATUSES))),
        allow_abbrev=False,
    )
    command.configure(parser)
    _add_language(parser)
    namespace, unknown = parser.parse_known_args(_with_negative_values(rest))
    if unknown:
        known = re.findall(r"--[a-z][a-z-]*", parser.format_help())
        raise UsageError(
            f"unknown argument {unknown[0]!r}",
            hint=did_you_mean(unknown[0].split("=")[0], known, otherwise=f"{parser.prog} --help"),
        )
    status: int = command.run(namespace)
    return status


def _add_language(parser: argparse.ArgumentParser) -> None:
    """Declare the language; `language_of` has read it before any text was written."""
    parser.add_argument(
        "--lang", type=one_of(LANGUAGES), metavar="NAME", default=argparse.SUPPRESS,
        help="language of what people read: en or zh (default: that of the locale); "
        "JSON and CSV stay English",
    )  # fmt: skip


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
        wrapped(f"  {name:<{width}}  {translated(text)}", indent=" " * (width + 4))
        for name, text in COMMANDS.items()
    )
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} COMMAND [OPTION …]",
        description=wrapped(
            translated("Says how big a PyTorch model is, whether it fits, and what costs most.")
        ),
        epilog=f"{translated('commands (each has its own --help):')}\n{commands}\n\n"
        f"{translated('example:')}\n  {_EXAMPLE}\n\n{wrapped(translated(_MODEL_STATUSES))}",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    _add_language(parser)
    namespace = parser.parse_args(arguments)
    if namespace.version:
        from torchgauge.version import __version__

        print(PROGRAM, __version__)
        return 0
    parser.print_help(sys.stderr)
    return 2


def _command_hint(name: str, rest: list[str]) -> str:
    if ":" in name or "." in name:  # a model spec without a command
        return f"{PROGRAM} summary {' '.join([name, *rest])}"
    listed = "one of " + ", ".join(COMMANDS)
    return did_you_mean(name, COMMANDS, otherwise=listed)
