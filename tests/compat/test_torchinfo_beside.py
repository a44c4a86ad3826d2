"""torchinfo 1.8.0 itself beside ours: every line of the table, and the figures below it.

What is not the same stands in ``torchinfo_differences.csv``, and the mechanisms behind it, with
who is right, in ``torchinfo_mechanisms.csv``.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.models
torchinfo = pytest.importorskip("torchinfo")

sys.path.insert(0, str(Path(__file__).parent))
import torchinfo_comparison as comparison  # noqa: E402
from torchinfo_comparison import CASES, FEATURES, TABLE  # noqa: E402


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


LISTED: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
for line in read(TABLE):
    LISTED[line["model"]].append(line)
MECHANISMS = {row["mechanism"]: row for row in read(TABLE.with_name("torchinfo_mechanisms.csv"))}


@pytest.mark.parametrize("name", CASES)
def test_a_model_beside_the_original(name: str) -> None:
    found = comparison.differences(name)
    listed = [{k: v for k, v in row.items() if k != "who_is_right"} for row in LISTED[name]]
    assert [asdict(item) for item in found] == listed


def test_the_table_is_complete() -> None:
    rows = [row for rows in LISTED.values() for row in rows]
    assert LISTED.keys() <= CASES.keys()
    assert {part for row in rows for part in row["why"].split(" + ")} == MECHANISMS.keys()
    assert all(row["right"] == "ours" and row["why"] for row in MECHANISMS.values())
    assert len(CASES) >= 100
    in_the_body = {row["model"] for row in rows if row["what"].startswith("row")}
    assert len(CASES) - len(in_the_body) >= 90, "models whose tables are the same line by line"


LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"row_settings": ()},
    "ascii": {"row_settings": ("ascii_only", "depth")},
    "names": {"row_settings": ("var_names",)},
    "hidden": {"row_settings": ("depth", "hide_recursive_layers")},
    "weights": {"verbose": 2},
    "narrow": {"col_width": 12},
    "one level": {"depth": 1},
    "two levels": {"depth": 2},
    "the root": {"depth": 0},
    "other order": {"col_names": ("trainable", "num_params", "kernel_size")},
}
ALIKE = [name for name in FEATURES if not any("row" in row["what"] for row in LISTED[name])]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ALIKE[::3])
def test_every_layout(layout: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    case = CASES[name]
    given = comparison.Case(
        build=case.build, data=case.data, settings={**case.settings, **LAYOUTS[layout]}
    )
    theirs = comparison.original_summary(given)
    ours = comparison.our_summary(given)
    assert comparison.body(theirs) == comparison.body(ours)
    assert str(theirs).splitlines()[:3] == str(ours).splitlines()[:3]


def raised(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[type, str]:
    with pytest.raises((ValueError, TypeError, RuntimeError)) as caught:
        function(*args, **kwargs)
    return caught.type, str(caught.value).partition("\n")[0]


WRONG: dict[str, dict[str, Any]] = {
    "verbose": {"verbose": 4},
    "column": {"input_size": (1, 2), "col_names": ("nonsense",)},
    "width": {"col_width": 0},
    "row": {"row_settings": ("nonsense",)},
    "no input": {"col_names": ("output_size",)},
    "device": {"device": "nonsense"},
    "mode": {"mode": "nonsense"},
    "zero": {"input_size": [(3, 0)]},
    "empty": {"input_size": []},
    "dict": {"input_size": {0: 1}},
    "text": {"input_size": "hello"},
    "both": {"input_size": (1, 2), "input_data": 1},
}


@pytest.mark.parametrize("name", WRONG)
def test_an_error_is_the_original_s(name: str) -> None:
    model = comparison.tm.CustomParameter(2, 3)
    theirs = raised(torchinfo.summary, model, **WRONG[name])
    assert raised(comparison.ours.summary, model, **WRONG[name]) == theirs
