"""The table of docs/advice.md is what the script measures, in every row that can be run here."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest

from advice_examples import BEGIN, END, EXAMPLES, PAGE, with_table
from advice_examples import row as measured_row

SAID = re.compile(r"^\| (?P<habit>[^|]+?) \|", re.MULTILINE)
TEXT = PAGE.read_text(encoding="utf-8")
TABLE = TEXT.partition(BEGIN)[2].partition(END)[0]
RELEASE = "2.13"
"""Of PyTorch, that the figures are of."""


def test_every_example_is_a_row_of_the_page() -> None:
    assert [match["habit"] for match in SAID.finditer(TABLE)][1:] == [e.habit for e in EXAMPLES]


def test_a_table_takes_the_place_of_the_old_one() -> None:
    assert with_table(f"a\n{BEGIN}old\n{END}b\n", "new") == f"a\n{BEGIN}\nnew\n{END}b\n"


@pytest.mark.models
@pytest.mark.filterwarnings("ignore")  # what the libraries warn of when they are imported
@pytest.mark.skipif(not version("torch").startswith(RELEASE), reason="another release of PyTorch")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.habit)
def test_a_row_is_what_is_measured(example) -> None:
    assert measured_row(example) in TABLE, "stale: run `make advice`"
