"""The parameters of a model by its parts, as bars that sum to the total."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.figures.axes import about, amount, count_unit, name_bars, show_legend
from torchgauge.figures.labels import plain, said, shortened
from torchgauge.figures.palette import BLUE, GREY
from torchgauge.render.tree.parts import Kind, Part, build_parts
from torchgauge.units import format_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 14
_LEAST_OPENED = 0.08
"""A part with a smaller share of the parameters stays one bar."""
_LEAST_SHOWN = 0.003
"""Parts with a smaller share are one bar."""
_ROW, _MARGIN = 0.16, 0.4
_LETTER = 0.052
"""Inches of a letter of a label, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A part of the model; bars do not overlap."""

    label: str
    params: int
    trainable_params: int
    copies: int = 1
    """How many equal modules it stands for."""


def parameter_bars(report: Report, most: int = MOST_BARS) -> list[Bar]:
    """Return the bars: the largest parts opened until there are ``most``, in the model's order."""
    root = build_parts(report)
    whole = root.cost.params
    parts, closed = [root], set[int]()
    while True:
        waiting = [part for part in parts if id(part) not in closed]
        best = max(waiting, key=lambda part: part.cost.params, default=None)
        if best is None or (best is not root and best.cost.params < _LEAST_OPENED * whole):
            break
        inside = _inside(best)
        rows = _shown([*parts, *inside], whole) - 1
        if not inside or (best is not root and rows > most - 1):
            closed.add(id(best))
            continue
        place = parts.index(best)
        parts[place : place + 1] = inside
    return _with_rest([_bar(part, root) for part in parts], most, whole)


def _shown(parts: list[Part], whole: int) -> int:
    return sum(part.cost.params >= _LEAST_SHOWN * whole for part in parts)


def _inside(part: Part) -> list[Part]:
    """Return the parts that own a part's parameters, none where they are one part."""
    below = [child for child in part.children if child.cost.params and child.kind is not Kind.CALLS]
    while len(below) == 1 and below[0].children:  # a wrapper around one other
        deeper = [child for child in below[0].children if child.cost.params]
        if not deeper:
            break
        below = deeper
    return below


def _bar(part: Part, root: Part) -> Bar:
    return Bar(
        label=root.name if part is root else part.label,
        params=part.cost.params,
        trainable_params=part.cost.trainable_params,
        copies=part.copies,
    )


def _with_rest(bars: list[Bar], most: int, whole: int) -> list[Bar]:
    """Return at most so many bars: those that are too small to see are one, the last."""
    ranked = sorted(bars, key=lambda bar: -bar.params)
    visible = [bar for bar in ranked if bar.params >= _LEAST_SHOWN * whole]
    kept = visible if len(visible) < most else visible[: most - 1]
    rest = ranked[len(kept) :]
    if len(rest) < 2:
        return bars
    chosen = {id(bar) for bar in kept}
    return [bar for bar in bars if id(bar) in chosen] + [
        Bar(
            label=said(f"{len(rest)} smaller parts"),
            params=sum(bar.params for bar in rest),
            trainable_params=sum(bar.trainable_params for bar in rest),
        )
    ]


def parameters_figure(report: Report, width: float) -> Figure:
    """Draw the parameters of a model.

    Raises:
        UsageError: it has none.
    """
    from torchgauge.figures.paper import own_style, paper_figure, settle

    if not report.totals.params:
        raise UsageError(
            f"{report.model_name} has no parameters to draw", hint="draw another figure"
        )
    bars = parameter_bars(report)
    with own_style():
        height = _ROW * len(bars) + _MARGIN
        figure, axes = paper_figure(width, height, said(f"Parameters: {about(report)}"))
        _draw(axes, bars, width)
        settle(figure)
    return figure


def _draw(axes: Axes, bars: list[Bar], width: float) -> None:
    unit = count_unit(max(bar.params for bar in bars))
    rows = range(len(bars))
    trained = [bar.trainable_params / unit.size for bar in bars]
    frozen = [(bar.params - bar.trainable_params) / unit.size for bar in bars]
    axes.barh(rows, trained, height=0.68, color=BLUE, label=said("Trainable"))
    if any(frozen):
        axes.barh(
            rows, frozen, left=trained, height=0.68, facecolor="#e4e7ea", edgecolor=GREY,
            linewidth=0.4, hatch="/////", label=said("Frozen"),
        )  # fmt: skip
        show_legend(axes, width)
    name_bars(
        axes,
        [bar_name(bar, int(width * 0.4 / _LETTER)) for bar in bars],
        [bar.params / unit.size for bar in bars],
        [format_count(bar.params) for bar in bars],
    )
    axes.set_xlabel(amount("Parameters", unit))


def bar_name(bar: Bar, most: int) -> str:
    """Return a bar's name in so many letters: its last parts, and how many modules it is.

    >>> bar_name(Bar(label="model.layers.0–15.mlp.up_proj", params=1, trainable_params=1), 18)
    '…0–15.mlp.up_proj'
    """
    label = plain(bar.label)
    while len(label) > most and "." in label.removeprefix("…"):
        label = f"…{label.removeprefix('…').partition('.')[2]}"
        if bar.copies > 1 and "–" not in label:  # the range that said so is gone
            return shortened(label, max(most - 5, 8)) + f" × {bar.copies}"
    return shortened(label, max(most, 8))
