"""The picture of a trend: every value where it belongs, and a gap where there is none."""

from __future__ import annotations

import math

import pytest

from torchgauge.errors import UsageError
from torchgauge.facts.loop.history import Analysis, History
from torchgauge.figures.trend import _ticks, trend_content, trend_figure, trend_lines


def analysis(number: int, value: float | None, **other: object) -> Analysis:
    given: dict[str, object] = {
        "at": "2026-11-30T07:30:00+00:00", "revision": f"{number:040x}", "is_dirty": False,
        "spec": "net.py:Net", "model_name": "Net", "settings": ("inference", "cpu"),
        "batch_size": 2,
    }  # fmt: skip
    return Analysis(number=number, value=value, **{**given, **other})  # type: ignore[arg-type]


def history(*analyses: Analysis, figure: str = "memory.peak_allocated_bytes") -> History:
    return History(tool_version="0.1.0", figure=figure, analyses=analyses)


MIB = 2.0**20


def test_values_stand_at_their_places_and_gaps_are_gaps() -> None:
    other = {"spec": "other.py:Net"}
    found = history(
        analysis(1, 3 * MIB), analysis(2, 9 * MIB, **other), analysis(3, None), analysis(4, 6 * MIB)
    )
    figure = trend_figure(found)
    one, two = figure.axes[0].lines
    assert list(one.get_xdata()) == [0, 2, 3]
    heights = list(one.get_ydata())
    assert heights[0] == 3 and math.isnan(heights[1]) and heights[2] == 6
    assert (list(two.get_xdata()), list(two.get_ydata())) == ([1], [9])
    assert figure.axes[0].get_ylabel() == "memory.peak_allocated_bytes (MiB)"
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["net.py:Net, inference · cpu · B = 2", "other.py:Net, inference · cpu · B = 2"]


def test_revisions_stand_below_once_each() -> None:
    a, b = "a" * 40, "b" * 40
    found = (
        analysis(1, 1.0, revision=a), analysis(2, 1.0, revision=a),
        analysis(3, 1.0, revision=a, is_dirty=True), analysis(4, 1.0, revision=b),
        analysis(5, 1.0, revision=""),
    )  # fmt: skip
    assert _ticks(found, 7.0) == ([0, 2, 3, 4], ["aaaaaaa", "aaaaaaa*", "bbbbbbb", "#5"])
    at, names = _ticks(tuple(analysis(number, 1.0) for number in range(300)), 7.0)
    assert len(at) == len(names) <= 11


@pytest.mark.parametrize(
    ("figure", "label"),
    [("time.total_ms", "time.total_ms (ms)"), ("totals.params", "totals.params (thousands)")],
)
def test_units_fit(figure: str, label: str) -> None:
    drawn = trend_figure(history(analysis(1, 120.0 if "time" in figure else 2e3), figure=figure))
    assert drawn.axes[0].get_ylabel() == label


def test_too_many_and_nothing_are_said() -> None:
    many = history(*(analysis(n, 1.0, spec=f"net{n}.py:Net") for n in range(7)))
    with pytest.raises(UsageError, match="7 models with their settings are too many") as error:
        trend_lines(many)
    assert "name one model" in error.value.hint
    for empty in (history(), history(analysis(1, None))):
        with pytest.raises(UsageError, match="nothing to draw"):
            trend_lines(empty)


@pytest.mark.parametrize(
    ("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")]
)
def test_equal_histories_are_equal_files(suffix: str, start: bytes) -> None:
    found = history(analysis(1, 3.0), analysis(2, 5.0, settings=("a\u202e\x1b$x$",)))
    content = trend_content(found, suffix)
    assert content.startswith(start)
    assert content == trend_content(found, suffix)
