"""The tables beside the estimators: each name once, each row whole."""

from __future__ import annotations

from collections import Counter
from inspect import signature
from pathlib import Path

import pytest

import torchgauge.estimate
from torchgauge.devices.tables import function_of, rows
from torchgauge.estimate.memory.workspaces import Platform, rules
from torchgauge.facts.trace import OpRecord, Phase

_OPERATOR = OpRecord(
    index=0, name="aten.sum.dim_IntList", args=(None, (2, 3)), kwargs=(), outputs=(), call=-1,
    phase=Phase.FORWARD,
)  # fmt: skip
TABLES = sorted(Path(torchgauge.estimate.__file__).parent.rglob("*.csv"))


def test_there_are_tables_and_each_has_its_module() -> None:
    assert len(TABLES) >= 7
    assert all(path.with_suffix(".py").is_file() for path in TABLES)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_name_is_in_a_table_once_and_its_row_is_whole(path: Path) -> None:
    found = rows(path)
    names = Counter(next(iter(row.values())) for row in found)
    assert [name for name, count in names.items() if count > 1] == []
    assert [row for row in found if None in row or None in row.values()] == []


CELLS = sorted({row[device] for row in rows(Path(rules.__file__).with_suffix(".csv"))
                for device in ("cpu", "cuda") if row[device]})  # fmt: skip


@pytest.mark.parametrize("cell", CELLS)
def test_a_rule_takes_an_operator_a_platform_and_the_numbers_of_its_cell(cell: str) -> None:
    for rule in cell.split(" + "):
        name, *numbers = rule.split()
        signature(function_of(rules.__package__, name)).bind("operator", "platform", *numbers)


def test_the_numbers_of_a_cell_are_the_last_arguments() -> None:
    assert function_of("torchgauge.estimate", "arguments.integers 1")(_OPERATOR) == (2, 3)


def test_rules_of_a_cell_add_up() -> None:
    rule = rules.rule_of("operands.elements -2 8 + operands.elements -2 4 -2 2")
    assert rule(_OPERATOR, Platform(type="cpu")) == (8, 4, 2)


def test_a_cell_names_a_function_that_there_is() -> None:
    with pytest.raises(AttributeError):
        function_of("torchgauge.estimate", "arguments.nothing")
