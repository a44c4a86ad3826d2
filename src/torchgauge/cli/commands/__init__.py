"""One file per command; this table is all that ``torchgauge --help`` needs to know of them.

The module of a command's name has ``configure(parser)``, which declares its arguments, and
``run(arguments) -> int``, which does the work and returns the exit status. It is imported only
when its command is the one that was called.
"""

from __future__ import annotations

COMMANDS = {
    "summary": "show parameters, shapes, MACs and memory of a model, layer by layer",
    "fit": "find out whether a step fits into a GPU, the largest batch, and what saves memory",
    "measure": "run a step for real and time it, by layer and operator",
    "explain": "say how a figure came about: its parts, the formula and the sources",
    "package": "export a model to a folder that can be served",
    "serve": "answer HTTP requests with a packaged model",
    "devices": "list the GPUs that torchgauge knows and those of this machine",
    "doctor": "find faults of the environment (driver, CUDA, torch, packages) and their fix",
}
