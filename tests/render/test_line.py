"""A line of values in each format: joined where both neighbours are known, a gap where not."""

from __future__ import annotations

import re

import pytest

from torchgauge.language import spoken
from torchgauge.render import get_format
from torchgauge.render.formats.cell import CellFormat
from torchgauge.render.line import chart_lines, dots_of, heights
from torchgauge.render.page import Chart, Data, Page, Point

FORMATS = {
    **{name: get_format(name) for name in ("text", "markdown", "html", "latex")},
    "cell": CellFormat(),
}
HOSTILE = "<b>\x1b[31m\u202e&"


def chart(*values: float | None, names: str = "", heading: str = "net.py:Net") -> Chart:
    labels = names.split() or [f"rev{number}" for number in range(len(values))]
    points = (
        Point(label=label, value=value, text="–" if value is None else f"{value:g} B")
        for label, value in zip(labels, values, strict=True)
    )
    return Chart(points=tuple(points), heading=heading)


def page(block: Chart) -> Page:
    data = Data(columns=("name", "value"), rows=tuple((p.label, p.value) for p in block.points))
    return Page(title=("history",), blocks=(block, data), is_about_a_model=False)


def test_heights_lie_between_the_smallest_and_the_largest() -> None:
    assert heights(chart(1, None, 3, 2)) == [0, None, 1, 0.5]
    assert heights(chart(7, 7)) == [0.5, 0.5]
    assert heights(chart(None, None)) == [None, None]


def test_known_neighbours_are_joined_and_no_others() -> None:
    assert dots_of(chart(0, 4), 5, 5) == {(0, 4), (1, 3), (2, 2), (3, 1), (4, 0)}
    gap = dots_of(chart(0, 0, None, 4, 4), 9, 5)
    assert {column for column, _ in gap} == {0, 1, 2, 6, 7, 8}
    assert dots_of(chart(None, 3, None), 9, 5) == {(4, 2)}
    assert dots_of(chart(5), 9, 5) == {(0, 2)}


def test_a_value_between_two_gaps_is_seen() -> None:
    for values in ((None, 3, None, 1, None), (2, None, 2)):
        drawn = "".join(chart_lines(chart(*values), 60))
        dots = [bin(ord(letter) - 0x2800).count("1") for letter in drawn if letter > "\u2800"]
        assert dots == [4, 4]


def test_the_text_names_the_ends_and_the_revisions() -> None:
    lines = list(chart_lines(chart(100, 200, 200, 50, names="aaa bbb bbb ccc"), 40))
    assert lines[0].startswith("200 B │") and lines[-2].startswith(" 50 B │")
    assert re.fullmatch(r"\s+aaa\s+bbb\s+ccc", lines[-1])
    flat = list(chart_lines(chart(3, 3, 3), 40))
    assert sum("3 B" in line for line in flat) == 1
    assert list(chart_lines(chart(None, None), 40)) == []


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("count", [2, 7, 500])
def test_no_line_is_too_wide(width: int, count: int) -> None:
    block = chart(*(float(number % 13) for number in range(count)))
    for is_ascii in (False, True):
        for line in chart_lines(block, width, ascii=is_ascii):
            assert len(line) <= width
            assert line.isascii() or not is_ascii
    text = get_format("text", width=width, ascii=True).render(page(block))
    assert all(len(line) <= width for line in text.splitlines())
    assert text.isascii() and "*" in text


def test_every_format_draws_it() -> None:
    block = chart(1, 2, None, 3)
    drawn = {name: format.render(page(block)) for name, format in FORMATS.items()}
    assert any("\u2801" <= letter <= "\u28ff" for letter in drawn["text"])
    assert "```text\n3 B │" in drawn["markdown"]
    assert drawn["html"].count("<polyline") == 1 and drawn["html"].count("<circle") == 3
    assert drawn["latex"].count(r"\qbezier") == 1 and drawn["latex"].count(r"\circle*") == 3
    assert "<pre" in drawn["cell"] and "svg" not in drawn["cell"]
    assert get_format("csv").render(page(block)).splitlines()[3] == "rev2,"


def test_names_cannot_harm() -> None:
    block = chart(1, 2, 3, names=" ".join([HOSTILE] * 3), heading=HOSTILE)
    for name, format in FORMATS.items():
        text = format.render(page(block))
        assert "\x1b" not in text and "\u202e" not in text
        if name in ("html", "cell"):
            assert "<b>" not in text


def test_it_is_the_same_in_chinese() -> None:
    with spoken("zh"):
        assert "net.py:Net" in get_format("text").render(page(chart(1, 2, 3)))
