"""The short form of the page's data: nothing is lost, and it is a quarter as long."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import page_reports as reports
import torchgauge as tg
from lean_data import whole
from torchgauge.facts.report import Report
from torchgauge.web.data import page_data
from torchgauge.web.lean import FEWEST, lean

SCALARS = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "a", "$", "1", "None"])
)  # fmt: skip
KEYS = st.sampled_from(["$", "of", "at", "a", "__proto__"])
DATA = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2 * FEWEST)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.lists(st.fixed_dictionaries({"a": inner, "$": inner}), min_size=FEWEST, max_size=20)
        | st.lists(inner, min_size=1, max_size=3).map(lambda some: some * FEWEST)
    ),
    max_leaves=40,
)


def written(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"))


@settings(max_examples=200, deadline=None)
@given(DATA)
def test_it_is_undone_to_the_letter(data: Any) -> None:
    assert written(whole(json.loads(written(lean(data))))) == written(data)


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ([0] * 100, {"$": "runs", "of": [0, 100]}),
        (list(range(7, 107)), {"$": "sums", "of": {"$": "runs", "of": [7, 1, 1, 99]}}),
        ([{"a": 1.5, "b": []}] * 20, {
            "$": "rows", "keys": ["a", "b"],
            "of": [
                {"$": "runs", "of": [1.5, 20]},
                {"$": "same", "of": [[]], "at": {"$": "runs", "of": [0, 20]}},
            ],
        }),
        (["conv", "relu"] * 10, {"$": "same", "of": ["conv", "relu"], "at": [0, 1] * 10}),
        ([[n, -n] for n in range(8)], {
            "$": "parts",
            "of": [x for n in range(8) for x in (n, -n)],
            "sizes": {"$": "runs", "of": [2, 8]},
        }),
        ([0.0, -0.0] * 4, [0.0, -0.0] * 4),
        ([1, True, 1.0, "1"] * 3, [1, True, 1.0, "1"] * 3),
        ({"$": [1]}, {"$": "object", "keys": ["$"], "of": [[1]]}),
    ],
)  # fmt: skip
def test_forms(values: Any, form: Any) -> None:
    assert written(lean(values)) == written(form)


def test_integers_that_javascript_rounds_are_not_added_up() -> None:
    large = [2**53 + n for n in range(20)]
    assert lean(large) == large


@pytest.mark.parametrize("name", ["trained", "on_the_cpu", "failed", "structure", "hostile"])
def test_the_data_of_a_page_are_not_changed(name: str) -> None:
    data = json.loads(written(page_data(getattr(reports, name)())))
    assert written(whole(lean(data))) == written(data)


@pytest.mark.slow
def test_a_large_page_is_a_quarter_as_long() -> None:
    data = page_data(reports.large())
    before, after = len(written(data)), len(written(lean(data)))
    assert before > 15_000_000
    assert after * 3.5 < before


def odd() -> Report:
    """A report with an object that has the mark as a key."""
    report = reports.trained()
    options = {"$": "runs", "of": [0.5, 3], "betas": [0.9, 0.25] + [1] * 9}
    return replace(report, scenario=replace(report.scenario, optimizer_options=options))


@pytest.mark.browser
@pytest.mark.parametrize("name", ["trained", "failed", "odd"])
def test_the_page_has_the_report_in_full(
    name: str, page_of: Callable[..., Any], tmp_path: Path
) -> None:
    report = odd() if name == "odd" else getattr(reports, name)()
    page = page_of(report)
    with page.expect_download() as download:
        page.get_by_text("Save data").click()
    download.value.save_as(tmp_path / "report.json")
    assert tg.load(tmp_path / "report.json").to_json() == report.to_json()
