"""``torchgauge completion bash``: the script that lets a shell complete the command line."""

from __future__ import annotations

import argparse
import importlib

from torchgauge.cli.options import one_of
from torchgauge.cli.output import deliver

_SHELLS = ("bash", "zsh", "fish")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "shell",
        metavar="SHELL",
        type=one_of(_SHELLS),
        help='bash or zsh: eval "$(torchgauge completion bash)" in ~/.bashrc; fish: torchgauge '
        "completion fish | source in ~/.config/fish/config.fish",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from torchgauge.cli.commands import COMMANDS
    from torchgauge.cli.completion.words import described

    maker = importlib.import_module(f"torchgauge.cli.completion.{arguments.shell}")
    deliver(maker.script(described(COMMANDS)), None)
    return 0
