"""A line of values as SVG in a page: no script, the colours of the page."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from torchgauge.render.line import ends, heights
from torchgauge.render.page import Chart

CHART_STYLE = """
.line { width: 100%; max-width: 60rem; height: auto; }
.line text { fill: var(--dim); font-size: 13px; }
.line text { text-anchor: middle; } .line text.end { text-anchor: end; }
.line .axis { stroke: var(--line); } .line polyline { fill: none; stroke: var(--notice); }
.line polyline { stroke-width: 2; } .line circle { fill: var(--notice); }
""".strip()

_WIDTH, _HEIGHT = 860, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 100, 40, 14, 30
_LETTER = 8
"""Units of a letter's width, about."""


def chart_svg(chart: Chart) -> Iterator[str]:
    """Yield the elements of a picture; nothing where no value is known."""
    places = _places(chart)
    if not any(places):
        return
    low, high = ends(chart)
    label = escape(f"{chart.heading}: {high.text}, {low.text}")
    yield f'<svg class="line" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
    base = _HEIGHT - _BOTTOM
    yield f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>'
    for point in dict.fromkeys((low, high)):
        at = next(at for at, one in zip(places, chart.points, strict=True) if one is point)
        assert at is not None
        text = escape(point.text)
        yield f'<text class="end" x="{_LEFT - 10}" y="{at[1] + 4:g}">{text}</text>'
    yield from _runs(places)
    for at, point in zip(places, chart.points, strict=True):
        if at is not None:
            title = escape(f"{point.label} {point.text}".strip())
            yield f'<circle cx="{at[0]:g}" cy="{at[1]:g}" r="3.5"><title>{title}</title></circle>'
    yield from _names(chart)
    yield "</svg>"


def _places(chart: Chart) -> list[tuple[float, float] | None]:
    tall = _HEIGHT - _TOP - _BOTTOM - 10
    return [
        None if height is None else (_across(number, chart), round(_TOP + (1 - height) * tall, 1))
        for number, height in enumerate(heights(chart))
    ]


def _across(number: int, chart: Chart) -> float:
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(chart.points) - 1)
    return round(_LEFT + number * step, 1)


def _runs(places: list[tuple[float, float] | None]) -> Iterator[str]:
    """Yield a line for each run of places without a gap."""
    run: list[tuple[float, float]] = []
    for at in [*places, None]:
        if at is not None:
            run.append(at)
            continue
        if len(run) > 1:
            points = " ".join(f"{x:g},{y:g}" for x, y in run)
            yield f'<polyline points="{points}"/>'
        run = []


def _names(chart: Chart) -> Iterator[str]:
    """Yield the names below their places: each once where it repeats, as many as there is room."""
    last = len(chart.points) - 1
    free, end = 0.0, _across(last, chart) - _LETTER * len(chart.points[last].label) / 2
    before = None
    for number, point in enumerate(chart.points):
        half = _LETTER * len(point.label) / 2
        at = _across(number, chart)
        is_new, before = point.label != before, point.label
        fits = at - half >= free and (number == last or at + half + _LETTER < end)
        if point.label and is_new and fits:
            free = at + half + _LETTER
            name = escape(point.label)
            yield f'<text x="{at:g}" y="{_HEIGHT - 8}">{name}</text>'
