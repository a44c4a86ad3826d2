"""The live bytes over a step, stacked by role, with its phases and its peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from rich.cells import cell_len

from torchgauge.facts.pictures.step import Step
from torchgauge.facts.report import Report
from torchgauge.facts.trace import Phase, Role
from torchgauge.figures.axes import about, amount, byte_unit, show_legend, time_unit
from torchgauge.figures.labels import said
from torchgauge.figures.palette import DIM, LINE, OTHER, PHASES, ROLES, SMALL_ROLES, TEXT
from torchgauge.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 100
"""Per inch: what paper shows. A column is as full as its fullest moment, so that none is lost."""
_LEAST_SHARE = 0.01
"""Roles that never reach this share of the peak are drawn together."""
_HEIGHT = 2.2
_NARROW = 0.12
"""Inches of a phase that has no room for its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCurve:
    """What is drawn: bytes by name at points of the step, which sum to the live bytes."""

    at: tuple[float, ...]
    """Milliseconds where a time is predicted, else operators."""
    is_time: bool
    areas: Mapping[str, tuple[int, ...]]
    """The lowest first."""
    colors: Mapping[str, str]
    phases: tuple[tuple[Phase, float, float], ...]
    """Where each phase begins and ends."""
    peak: int
    """Index of the fullest point."""

    @property
    def totals(self) -> tuple[int, ...]:
        """Return the live bytes by point."""
        return tuple(map(sum, zip(*self.areas.values(), strict=True)))


def memory_curve(step: Step, columns: int = 350) -> MemoryCurve:
    """Return what the figure of a step shows, at no more than so many columns."""
    memory = step.memory
    totals = [sum(column) for column in zip(*memory.roles.values(), strict=True)]
    at, end = _places(step)
    is_time = bool(step.operators.time_ms)
    if is_time or len(at) > columns:
        places, kept = _columns(at, end, totals, columns)
    else:
        places, kept = at, list(range(len(at)))
    areas, colors = _areas(memory.roles, kept, max(totals))
    return MemoryCurve(
        at=(*places, end),
        is_time=is_time,
        areas=areas,
        colors=colors,
        phases=_phases(step, at[0], end),
        peak=max(range(len(kept)), key=lambda index: totals[kept[index]]),
    )


def _phases(step: Step, begin: float, end: float) -> tuple[tuple[Phase, float, float], ...]:
    ops = step.operators
    starts = ops.start_ms if ops.time_ms else [float(op) for op in ops.op]
    found: list[tuple[Phase, float, float]] = []
    for phase, run in groupby(zip(ops.phase, starts, strict=True), key=lambda point: point[0]):
        start = next(run)[1] if found else begin
        if found:
            found[-1] = (*found[-1][:2], start)
        found.append((Phase(step.texts[phase]), start, end))
    return tuple(found)


def _places(step: Step) -> tuple[list[float], float]:
    """Return where each point of the memory lies, and where the step ends."""
    ops, memory = step.operators, step.memory
    if not ops.time_ms:
        return [float(max(op, 0)) for op in memory.op], float(max((*ops.op, *memory.op, 0)) + 1)
    starts = dict(zip(ops.op, ops.start_ms, strict=True))
    last, found = 0.0, []
    for op in memory.op:  # points are in the order of the operators; a view has no start
        last = max(last, starts.get(op, last))
        found.append(last)
    end = max(last, sum(ops.time_ms))
    return found, end if end > found[0] else found[0] + 1.0  # a step may do nothing


def _columns(
    at: Sequence[float], end: float, totals: Sequence[int], columns: int
) -> tuple[list[float], list[int]]:
    """Return where columns begin, and the fullest point of each.

    A column may begin with what the one before it ended with.
    """
    length = (end - at[0]) / columns or 1.0
    places, kept, last = list[float](), list[int](), 0
    for column, run in groupby(range(len(at)), key=lambda i: int((at[i] - at[0]) / length)):
        points = list(run)
        if kept and places[-1] < (column - 1) * length + at[0]:  # the columns between hold it
            places.append(places[-1] + length)
            kept.append(last)
        places.append(column * length + at[0])
        kept.append(max(points, key=lambda index: totals[index]))
        last = points[-1]
    return places, kept


def _areas(
    roles: Mapping[Role, tuple[int, ...]], kept: Sequence[int], peak: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    areas, colors = dict[str, tuple[int, ...]](), dict[str, str]()
    rest = [0] * len(kept)
    for role, (name, color) in ROLES.items():
        values = roles.get(role)
        if values is None or not any(values):
            continue
        if max(values) >= _LEAST_SHARE * peak:
            areas[name], colors[name] = tuple(values[index] for index in kept), color
        else:
            rest = [sum_ + values[index] for sum_, index in zip(rest, kept, strict=True)]
    if any(rest):
        areas[OTHER], colors[OTHER] = tuple(rest), SMALL_ROLES
    return areas, colors


def memory_figure(report: Report, step: Step, width: float) -> Figure:
    """Draw the memory of a step."""
    from torchgauge.figures.paper import check_width, own_style, paper_figure, settle

    check_width(width)
    curve = memory_curve(step, columns=round(width * _COLUMNS))
    with own_style():
        figure, axes = paper_figure(width, _HEIGHT, said(f"Memory over a step: {about(report)}"))
        _draw(axes, curve, width)
        if curve.is_time:
            label = f"Predicted time of a step on {report.scenario.device}"
            axes.set_xlabel(amount(label, time_unit(curve.at[-1])))
        else:
            axes.set_xlabel(said("Operators of a step, in order"))
        settle(figure)
    return figure


def _draw(axes: Axes, curve: MemoryCurve, width: float) -> None:
    totals = curve.totals
    unit = byte_unit(max(totals))
    scale = time_unit(curve.at[-1]).size if curve.is_time else 1.0
    at = [place / scale for place in curve.at]
    base = [0.0] * len(at)
    for name, values in curve.areas.items():
        held = [*values, values[-1]]  # a value holds until the next point
        top = [low + value / unit.size for low, value in zip(base, held, strict=True)]
        axes.fill_between(
            at,
            base,
            top,
            step="post",
            label=said(name),
            facecolor=curve.colors[name],
            linewidth=0,
            gid=name,
        )
        base = top
    peak = totals[curve.peak] / unit.size
    axes.set(xlim=(at[0], at[-1]), ylim=(0, peak * 1.22), ylabel=amount("Live memory", unit))
    _mark_phases(axes, curve, scale, peak, width)
    middle = (at[curve.peak] + at[curve.peak + 1]) / 2
    _mark_peak(axes, middle, peak, format_bytes(totals[curve.peak]))
    handles, labels = axes.get_legend_handles_labels()
    show_legend(axes, width, handles[::-1], labels[::-1])  # the highest area first


def _mark_phases(axes: Axes, curve: MemoryCurve, scale: float, peak: float, width: float) -> None:
    whole = curve.at[-1] - curve.at[0]
    for phase, begin, end in curve.phases:
        if begin > curve.at[0]:
            axes.axvline(begin / scale, color=LINE if phase is Phase.LOSS else DIM, linewidth=0.5)
        name = said(PHASES[phase][0])
        inches = (end - begin) / whole * (width - 0.6)
        if inches > _NARROW:
            axes.text(
                (begin + end) / 2 / scale, peak * 1.2, name, color=DIM, ha="center", va="top",
                fontsize=6, rotation=0 if inches > 0.06 * cell_len(name) else 90,
            )  # fmt: skip


def _mark_peak(axes: Axes, place: float, peak: float, text: str) -> None:
    low, high = axes.get_xlim()
    on_right = (place - low) / (high - low) > 0.5
    axes.plot([place], [peak], marker="v", markersize=3, color=TEXT, clip_on=False, gid="peak")
    axes.annotate(
        said(f"peak {text}"), (place, peak), xytext=(-4 if on_right else 4, 3.5),
        textcoords="offset points", ha="right" if on_right else "left", va="center", fontsize=6,
    )  # fmt: skip
