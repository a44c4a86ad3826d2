"""Which module a command is in; the table of them is in ``cli.commands``."""

from __future__ import annotations


def module_of(name: str) -> str:
    """Return the module of a command.

    >>> module_of("explain-oom")
    'torchgauge.cli.commands.explain_oom'
    """
    return f"torchgauge.cli.commands.{name.replace('-', '_')}"
