"""docs/cli.md has every command, with the formats and exit statuses that it has."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

from torchgauge.cli.commands import COMMANDS
from torchgauge.cli.main import BROKEN_PIPE_STATUS, INTERNAL_ERROR_STATUS, INTERRUPTED_STATUS
from torchgauge.cli.modules import module_of

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def table(first: str) -> dict[str, list[str]]:
    """Return the rows of the table whose first title is given, by their first cell."""
    lines = PAGE[PAGE.index(f"| {first} |") :].splitlines()[2:]
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name.strip("`")] = cells
    return rows


def options_of(name: str) -> set[str]:
    parser = argparse.ArgumentParser()
    importlib.import_module(module_of(name)).configure(parser)
    return {flag for action in parser._actions for flag in action.option_strings}


def test_every_command_is_there_in_its_order():
    assert list(table("command")) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_formats_and_strict_are_those_of_the_parser(name):
    _, formats, statuses = table("command")[name]
    options = options_of(name)
    assert ("--format" in options) == formats.startswith("all")
    numbers = set(statuses.split(", "))
    assert {"0", "2"} <= numbers
    assert ("4" in numbers) == ("--strict" in options and name != "doctor")
    assert numbers <= table("exit status").keys()


def test_a_command_without_formats_gives_no_single_answer():
    without = {name for name in COMMANDS if "--format" not in options_of(name)}
    assert without == {"watch", "ui", "mcp", "serve", "completion"}


def test_statuses_beyond_the_errors_are_there():
    rows = table("exit status")
    for status in (INTERNAL_ERROR_STATUS, INTERRUPTED_STATUS, BROKEN_PIPE_STATUS):
        assert str(status) in rows
