"""A line of values drawn with characters: dots of Braille letters, or stars where only ASCII is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchgauge.render.layout import pad
from torchgauge.render.page import Chart, Point

_HEIGHT = 5
"""Lines of text that the values are drawn in."""
_EMPTY = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""By row and column of a letter: the bit of its dot (Unicode, Braille Patterns)."""
_LONGEST = 120
"""Letters of a line at most; no more than the values need."""
_LETTERS_EACH = 4


def chart_lines(chart: Chart, width: int, *, ascii: bool = False) -> Iterator[str]:
    """Yield the lines of a chart: the largest value on top, the points' names below.

    Args:
        chart: what is drawn.
        width: characters per line.
        ascii: draw in ASCII.
    """
    if all(point.value is None for point in chart.points):
        return
    low, high = (point.text for point in ends(chart))
    axis = max(len(low), len(high)) + 1
    room = min(width - axis - 1, _LONGEST, _LETTERS_EACH * len(chart.points))
    rows = _ascii_rows(chart, room) if ascii else _braille_rows(chart, room)
    labels = {0: high, _HEIGHT - 1: low if low != high else ""}
    for number, row in enumerate(rows):
        text = labels.get(number, "")
        yield f"{' ' * (axis - 1 - len(text))}{text} {'|' if ascii else '│'}{row}".rstrip()
    yield from (f"{' ' * (axis + 1)}{text}" for text in (_names(chart.points, room),) if text)


def ends(chart: Chart) -> tuple[Point, Point]:
    """Return the points with the smallest and the largest of the known values."""
    known = [(point.value, point) for point in chart.points if point.value is not None]
    low = min(known, key=lambda pair: pair[0])
    high = max(known, key=lambda pair: pair[0])
    return low[1], high[1]


def dots_of(chart: Chart, columns: int, rows: int) -> set[tuple[int, int]]:
    """Return the dots of a line, by column and row from the top left.

    Neighbours that are both known are joined; nothing joins what is not known.
    """
    found: set[tuple[int, int]] = set()
    before: tuple[int, int] | None = None
    for number, height in enumerate(heights(chart)):
        if height is None:
            before = None
            continue
        at = _place(number, len(chart.points), columns), round((1 - height) * (rows - 1))
        found.update(_joined(before or at, at))
        before = at
    return found


def heights(chart: Chart) -> list[float | None]:
    """Return the values between 0 for the smallest and 1 for the largest; equal ones are 0.5."""
    values = [point.value for point in chart.points if point.value is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    return [
        None if point.value is None
        else (point.value - low) / (high - low) if high > low
        else 0.5
        for point in chart.points
    ]  # fmt: skip


def _place(number: int, count: int, columns: int) -> int:
    return round(number * (columns - 1) / (count - 1)) if count > 1 else 0


def _joined(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    for step in range(steps + 1):
        yield tuple(round(a + (b - a) * step / steps) for a, b in zip(start, end, strict=True))  # type: ignore[misc]


def _braille_rows(chart: Chart, width: int) -> list[str]:
    letters = [[_EMPTY] * width for _ in range(_HEIGHT)]
    columns, lines = 2 * width, 4 * _HEIGHT
    for column, row in dots_of(chart, columns, lines) | set(_lonely(chart, columns, lines)):
        letters[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    return ["".join(map(chr, row)).replace(chr(_EMPTY), " ") for row in letters]


def _lonely(chart: Chart, columns: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield three dots beside each value that nothing is joined to: one alone is hardly seen."""
    found = [None, *heights(chart), None]
    for number, (before, height, after) in enumerate(
        zip(found, found[1:], found[2:], strict=False)
    ):
        if height is not None and before is None and after is None:
            row = round((1 - height) * (rows - 1))
            column = _place(number, len(chart.points), columns)
            yield from ((column ^ 1, row), (column, row ^ 1), (column ^ 1, row ^ 1))


def _ascii_rows(chart: Chart, width: int) -> list[str]:
    letters = [[" "] * width for _ in range(_HEIGHT)]
    for column, row in dots_of(chart, width, _HEIGHT):
        letters[row][column] = "*"
    return ["".join(row) for row in letters]


def _names(points: Sequence[Point], width: int) -> str:
    """Return the names of the points below their places: the last one, and those there is room for.

    A name that is the one before stands once.
    """
    text = ""
    last = points[-1].label[:width]
    for number, point in enumerate(points[:-1]):
        start = _place(number, len(points), width)
        is_new = number == 0 or point.label != points[number - 1].label
        fits = start >= len(text) + (2 if text else 0)
        leaves_room = start + len(point.label) + 2 <= width - len(last)
        if is_new and fits and leaves_room and point.label:
            text = pad(text, start) + point.label
    return pad(text, width - len(last)) + last if last != points[0].label or not text else text
