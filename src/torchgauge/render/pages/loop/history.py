"""The history of a project as a page: a line per analysis, and the trend of a figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torchgauge.facts.loop.history import Analysis, History
from torchgauge.render.page import (
    Block,
    Chart,
    Column,
    Data,
    Facts,
    Page,
    Point,
    fact,
    table_of,
)
from torchgauge.units import (
    format_bytes,
    format_count,
    format_integer,
    format_milliseconds,
    format_number_of,
)

_BARS = "▁▂▃▄▅▆▇█"
_LEAST_POINTS = 3
"""A line of two points says no more than its two values."""
_MOST_CHARTS = 3
"""Of more, each has its bars in a line of text."""
_EMPTY = "nothing was analysed yet"


def history_page(history: History) -> Page:
    """Return what is shown of a history."""
    analyses = history.analyses
    specs = list(dict.fromkeys(item.spec for item in analyses))
    form = format_of(history.figure)
    title = ("history", history.figure, *(specs if len(specs) == 1 else ()))
    if not analyses:
        return Page(
            title=title,
            blocks=(Facts(facts=(fact("Empty", _EMPTY),)), _data(history)),
            is_about_a_model=False,
        )
    groups = history.groups
    charts = [
        _chart(f"{spec} · {asked}", of, form)
        for (spec, asked), of in groups.items()
        if _is_line(of)
    ]
    has_charts = len(charts) <= _MOST_CHARTS
    trends = [
        fact(spec, asked, *_trend(of, form, spark_too=not has_charts))
        for (spec, asked), of in groups.items()
    ]
    columns = (
        Column("When (UTC)", is_number=False),
        Column("Revision", is_number=False, keep=80, is_code=True),
        Column("Model", is_number=False, keep=60, is_code=True),
        Column("Settings", is_number=False, keep=70),
        Column("Value", keep=100),
    )
    rows = [_row(item, form) for item in analyses]
    blocks: tuple[Block, ...] = (
        Facts(facts=tuple(trends)), *(charts if has_charts else ()), table_of(columns, rows),
        _data(history),
    )  # fmt: skip
    return Page(title=title, blocks=blocks, is_about_a_model=False)


def format_of(figure: str) -> Callable[[float], str]:
    """Return how a figure is written, by the unit that its name ends in."""
    if figure.endswith("bytes"):
        return format_bytes
    if figure.endswith("_ms"):
        return format_milliseconds
    if "macs" in figure or "flops" in figure:
        return format_count
    return lambda value: format_integer(int(value)) if value == int(value) else f"{value:.4g}"


def _is_line(analyses: Sequence[Analysis]) -> bool:
    known = [item for item in analyses if item.value is not None]
    return len(analyses) >= _LEAST_POINTS and len(known) > 1


def _chart(heading: str, analyses: Sequence[Analysis], form: Callable[[float], str]) -> Chart:
    points = (
        Point(
            label=item.place,
            value=item.value,
            text="–" if item.value is None else form(item.value),
        )
        for item in analyses
    )
    return Chart(points=tuple(points), heading=heading)


def _trend(
    analyses: Sequence[Analysis], form: Callable[[float], str], *, spark_too: bool
) -> tuple[str, ...]:
    values = [item.value for item in analyses if item.value is not None]
    count = f"analysed {format_number_of(len(analyses), 'time')}"
    if not values:
        return ("–", count)
    gaps = len(analyses) - len(values)
    counts = (count, *((f"not known in {gaps} of them",) if gaps else ()))
    if len(values) == 1:
        return (form(values[0]), *counts)
    drawn = (spark([item.value for item in analyses]),) if spark_too else ()
    return (f"{form(values[0])} → {form(values[-1])}", *drawn, *counts)


def spark(values: Sequence[float | None]) -> str:
    """Draw values as a line of bars; a dash where one is not known.

    >>> spark([1, 2, None, 3]), spark([2, 2])
    ('▁▅–█', '▁▁')
    """
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        "–" if value is None else _BARS[round((value - low) * scale + 1e-9)] for value in values
    )


def _row(item: Analysis, form: Callable[[float], str]) -> tuple[str, ...]:
    revision = item.revision[:10] + ("*" if item.is_dirty else "")
    when = item.at.replace("T", " ").removesuffix("+00:00")
    value = "–" if item.value is None else form(item.value)
    return when, revision or "–", item.spec, item.asked, value


def _data(history: History) -> Data:
    columns = ("number", "at", "revision", "is_dirty", "spec", "settings", "batch_size",
               history.figure)  # fmt: skip
    rows = tuple(
        (item.number, item.at, item.revision, str(item.is_dirty), item.spec,
         " · ".join(item.settings), item.batch_size, item.value)
        for item in history.analyses
    )  # fmt: skip
    return Data(columns=columns, rows=rows)
