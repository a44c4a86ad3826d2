"""How the intervals are made from published figures: what needs no data file."""

import csv
from collections.abc import Sequence

import pytest
from benchmarks.memory_sets.intervals import (
    FEWEST,
    SHARE,
    Score,
    ends,
    intervals,
    left_out,
    section,
    table,
)
from hypothesis import given
from hypothesis import strategies as st

shares = st.floats(0.2, 5.0)


def scored(values: Sequence[float], kind: str = "a", family: str = "one") -> list[Score]:
    return [Score(set="xmem", kind=kind, family=family, gpu=family, share=v) for v in values]


@given(st.lists(shares, min_size=FEWEST, max_size=80))
def test_an_interval_holds_its_share_of_the_figures_and_the_prediction(values: list[float]) -> None:
    low, high = ends(values)
    slack = 1e-4  # the table has four digits
    held = sum(low - slack <= value <= high + slack for value in values)
    assert held >= SHARE * len(values)
    assert low <= 1 <= high


def test_errors_of_one_side_widen_that_side_alone() -> None:
    low, high = ends([1 + 0.01 * step for step in range(20)])
    assert low == 1.0 and 1.15 < high < 1.2


def test_too_few_figures_make_no_interval() -> None:
    with pytest.raises(ValueError, match="9 figures are too few"):
        ends([1.0] * (FEWEST - 1))
    assert intervals(scored([1.0] * (FEWEST - 1))) == {}


def test_a_group_is_judged_by_the_others_alone() -> None:
    usual, odd = scored([0.99, 1.01] * FEWEST, family="usual"), scored([2.0] * 30, family="odd")
    judged = left_out([*usual, *odd], lambda score: score.family)
    held = {family: [h for s, h in judged if s.family == family] for family in ("usual", "odd")}
    assert len(judged) == len(usual) + len(odd)
    assert not any(held["odd"])  # though in the whole they are the most frequent
    assert sum(held["usual"]) == FEWEST  # those above the prediction: [1, 2] is all the others say


def test_a_kind_without_others_is_judged_by_the_widest_interval() -> None:
    wide, alone = scored([0.5, 1.5] * FEWEST, kind="wide"), scored([1.4] * 20, "alone", "two")
    judged = left_out([*wide, *alone], lambda score: score.family)
    assert all(held for score, held in judged if score.kind == "alone")


def test_the_table_and_the_page_say_the_same() -> None:
    found = [
        *scored([0.9 + 0.01 * step for step in range(20)], "a, b", "one"),
        *scored([0.95 + 0.01 * step for step in range(20)], "a, b", "two"),
    ]
    lines = [line for line in table(found).splitlines() if not line.startswith("#")]
    (row,) = csv.DictReader(lines)
    assert row["kind"] == "a, b" and row["figures"] == "40"
    assert (float(row["lower"]), float(row["upper"])) == intervals(found)["a, b"]
    text = "\n".join(section(found))
    assert f"| a, b | 40 | {float(row['coverage']):.0%} |" in text
    assert "| xmem | 40 |" in text
