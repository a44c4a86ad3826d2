"""The READMEs' table of MACs is what the tools say now, and torchgauge says the true ones."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore"),  # the peers' own: they are not maintained for new torch
]
MOST_LEFT_OUT = 1
"""Rows of the benchmark that the READMEs have no room for."""
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wrong_answers():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("wrong_answers")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def table_of(readme: str) -> list[list[str]]:
    text = (ROOT / readme).read_text(encoding="utf-8")
    table = text[text.index("| | ") :].split("\n\n")[0]
    lines = [line for line in table.splitlines() if "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def measured(wrong_answers) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in wrong_answers.table()]


def test_the_readme_shows_what_the_tools_say(wrong_answers, measured):
    head, *rows = table_of("README.md")
    assert head[2:] == list(wrong_answers.SHOWN)
    assert all(row in measured for row in rows)
    assert len(measured) - len(rows) <= MOST_LEFT_OUT


def test_the_chinese_readme_shows_the_same_figures(wrong_answers, measured):
    head, *rows = table_of("README.zh-CN.md")
    assert head[2:] == list(wrong_answers.SHOWN)
    english = table_of("README.md")[1:]
    assert [row[1:] for row in rows] == [row[1:] for row in english]


def test_torchgauge_gives_the_true_figures(wrong_answers):
    for row in wrong_answers.rows():
        assert wrong_answers.ask("torchgauge", row) == row.true_macs, row.label
