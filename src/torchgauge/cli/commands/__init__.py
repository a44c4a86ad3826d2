"""One file per command; this table is all that ``torchgauge --help`` needs to know of them.

The module of a command (``cli.modules``) has ``configure(parser)``, which declares its arguments,
and ``run(arguments) -> int``, which does the work and returns the exit status. It is imported only
when its command is the one that was called.
"""

from __future__ import annotations

COMMANDS = {
    "summary": "show parameters, shapes, MACs and memory of a model, layer by layer",
    "fit": "find out whether a step fits into a GPU, the largest batch, and what saves memory",
    "advise": "find what is wrong and what can be slimmed: each change applied and measured",
    "plan-checkpoints": "choose what to recompute in the backward, so that a step fits",
    "compare": "say what changed between two models, revisions, scenarios or saved reports",
    "watch": "analyse a model again after each save, and say what changed",
    "history": "list what was analysed when, and follow a figure over time",
    "check": "hold models against the budgets of a project; exit status 1 over budget",
    "measure": "run a step for real and time it, by layer and operator",
    "explain": "say how a figure came about: its parts, the formula and the sources",
    "explain-oom": "find the layer that ran out of memory, from the error's message",
    "ui": "show the report in the browser and answer what-if questions there",
    "package": "export a model to a folder that can be served",
    "mcp": "answer an assistant in an editor (Model Context Protocol, stdin and stdout)",
    "serve": "answer HTTP requests with a packaged model",
    "devices": "list the GPUs that torchgauge knows and those of this machine",
    "completion": "print the script that completes the command line in bash, zsh or fish",
    "doctor": "find faults of the environment (driver, CUDA, torch, packages) and their fix",
}
