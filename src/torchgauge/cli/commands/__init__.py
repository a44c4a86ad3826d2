"""One file per command; this table is all that ``torchgauge --help`` needs to know of them.

A command's module has ``configure(parser)``, which declares its arguments, and
``run(arguments) -> int``, which does the work and returns the exit status. It is imported only
when its command is the one that was called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Where a command lives and what ``--help`` says of it."""

    module: str
    help: str


COMMANDS: Mapping[str, Command] = {
    "summary": Command(
        module="torchgauge.cli.commands.summary",
        help="show parameters, shapes, MACs and memory of a model, layer by layer",
    ),
    "fit": Command(
        module="torchgauge.cli.commands.fit",
        help="find out whether a step fits into a GPU, the largest batch, and what saves memory",
    ),
    "measure": Command(
        module="torchgauge.cli.commands.measure",
        help="run a step for real and time it, by layer and operator",
    ),
    "package": Command(
        module="torchgauge.cli.commands.package",
        help="export a model to a folder that can be served",
    ),
    "serve": Command(
        module="torchgauge.cli.commands.serve",
        help="answer HTTP requests with a packaged model",
    ),
    "devices": Command(
        module="torchgauge.cli.commands.devices",
        help="list the GPUs that torchgauge knows and those of this machine",
    ),
    "doctor": Command(
        module="torchgauge.cli.commands.doctor",
        help="find faults of the environment (driver, CUDA, torch, packages) and their fix",
    ),
}
