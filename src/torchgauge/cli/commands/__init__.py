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
        help="parameters, shapes, MACs and memory of a model, layer by layer",
    ),
    "fit": Command(
        module="torchgauge.cli.commands.fit",
        help="whether a step fits into a GPU, the largest batch, what would make it fit",
    ),
    "measure": Command(
        module="torchgauge.cli.commands.measure",
        help="run a step for real: how long it takes, and which layer and operator take it",
    ),
    "package": Command(
        module="torchgauge.cli.commands.package",
        help="export a model and put it into a folder that can be served, checked and described",
    ),
    "serve": Command(
        module="torchgauge.cli.commands.serve",
        help="answer HTTP requests with a packaged model",
    ),
    "devices": Command(
        module="torchgauge.cli.commands.devices",
        help="GPUs and boards that torchgauge knows, and the GPUs of this machine",
    ),
    "doctor": Command(
        module="torchgauge.cli.commands.doctor",
        help="what is wrong with this environment (driver, CUDA, torch, packages), and the fix",
    ),
}
