"""How a figure changed over the analyses of a project, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchgauge.errors import UsageError
from torchgauge.facts.loop.history import Analysis, History
from torchgauge.figures.axes import Unit, byte_unit, count_unit, show_legend, time_unit
from torchgauge.figures.labels import plain, said, shortened
from torchgauge.figures.palette import SERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 7.0
"""Inches: two columns of a paper, as the revisions need room."""
_HEIGHT = 2.4
_LETTER = 0.075
"""Inches of a letter below the axis, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendLine:
    """A model in its settings."""

    label: str
    at: tuple[int, ...]
    """Places in the history, from 0."""
    values: tuple[float | None, ...]


def trend_lines(history: History) -> list[TrendLine]:
    """Return a line for each model and its settings.

    Raises:
        UsageError: no value is known, or there are more lines than can be told apart.
    """
    places = {id(item): place for place, item in enumerate(history.analyses)}
    groups = history.groups
    if len(groups) > len(SERIES):
        raise UsageError(
            f"{len(groups)} models with their settings are too many for one picture",
            hint="name one model: torchgauge history model.py:Net --output trend.svg",
        )
    lines = [
        TrendLine(
            label=plain(f"{spec}, {asked}"),
            at=tuple(places[id(item)] for item in of),
            values=tuple(item.value for item in of),
        )
        for (spec, asked), of in groups.items()
    ]
    if all(value is None for line in lines for value in line.values):
        raise UsageError(
            f"no analysis holds {history.figure}, so there is nothing to draw",
            hint="analyse the model while there is a history: torchgauge summary model.py:Net",
        )
    return lines


def trend_content(history: History, suffix: str) -> bytes:
    """Return what the file of the picture holds; ``suffix`` is one of ``PICTURES``.

    Raises:
        UsageError: there is nothing to draw, or too much.
        MissingExtraError: matplotlib is not installed.
    """
    stream = io.BytesIO()
    trend_figure(history).savefig(stream, format=suffix.removeprefix("."))
    return stream.getvalue()


def trend_figure(history: History, width: float = WIDTH) -> Figure:
    """Draw the trend: revisions from left to right, a gap where the figure was not known.

    Raises:
        UsageError: there is nothing to draw, or too much.
        MissingExtraError: matplotlib is not installed.
    """
    from torchgauge.figures.plot import require_matplotlib

    lines = trend_lines(history)
    require_matplotlib()
    from torchgauge.figures.paper import own_style, paper_figure, settle

    with own_style():
        figure, axes = paper_figure(width, _HEIGHT, said(plain(f"Trend of {history.figure}")))
        most = max(abs(value) for line in lines for value in line.values if value is not None)
        unit = _unit(history.figure, most)
        for line, (color, marker) in zip(lines, SERIES, strict=False):
            drawn = [float("nan") if v is None else v / unit.size for v in line.values]
            label = shortened(line.label, int(width * 13))
            axes.plot(line.at, drawn, color=color, marker=marker, markersize=3, label=label)
        axes.set_ylabel(plain(history.figure) + (f" ({said(unit.name)})" if unit.name else ""))
        axes.set_xticks(*_ticks(history.analyses, width))
        axes.grid(axis="y")
        axes.margins(x=0.03, y=0.12)
        show_legend(axes, width)
        settle(figure)
    return figure


def _unit(figure: str, most: float) -> Unit:
    if figure.endswith("bytes"):
        return byte_unit(most)
    if figure.endswith("_ms"):
        return time_unit(most)
    return count_unit(most)


def _ticks(analyses: Sequence[Analysis], width: float) -> tuple[list[int], list[str]]:
    """Return where a revision begins and its name, as many as there is room for."""
    room = width / (_LETTER * 9)
    step = max(1, -(-len(analyses) // max(1, int(room))))
    at: list[int] = []
    names: list[str] = []
    for place, item in enumerate(analyses):
        begins = place == 0 or item.place != analyses[place - 1].place
        if begins and (not at or place - at[-1] >= step):
            at.append(place)
            names.append(plain(item.place))
    return at, names
