"""The operators of a step under the limits of the device: Williams, Waterman, Patterson (2009)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchgauge.errors import UsageError
from torchgauge.facts.pictures.step import Roof, Step
from torchgauge.facts.report import Report
from torchgauge.figures.axes import about, show_legend
from torchgauge.figures.labels import said
from torchgauge.figures.palette import DIM, OTHER, OTHERS, SERIES, TEXT, kind_name
from torchgauge.units import format_count, format_rough_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 2.6
_NEGLIGIBLE = 0.005
"""Share of the step's time of the smallest points, all together: they would stretch the axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Operators of one kind with the same work and time; all their runs."""

    kind: str
    flops_per_byte: float
    flops_per_second: float
    time_ms: float
    """Of all runs together."""
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """What is drawn."""

    points: tuple[Point, ...]
    hidden_ms: float
    """Time of operators that only move data, which have no place in the figure, and of those that
    take next to none."""
    total_ms: float
    roof: Roof


def roofline_of(step: Step, device: str) -> Roofline:
    """Return the points of a step.

    Raises:
        UsageError: the device's limits are not known, or no operator has FLOPs.
    """
    ops = step.operators
    if step.roof is None:
        raise UsageError(
            f"there is no roofline for {device}: its limits are not known",
            hint="name a GPU, such as device='T4' (torchgauge devices lists them)",
        )
    spent: defaultdict[tuple[str, int, int, float], list[float]] = defaultdict(list)
    for kind, matmul, other, nbytes, milliseconds in zip(
        ops.kind, ops.flops, ops.elementwise_flops, ops.nbytes, ops.time_ms, strict=True
    ):
        flops = matmul + other
        if flops and nbytes and milliseconds:
            # Equal operators have equal times but for what the GPU waits for the CPU.
            key = step.texts[kind] or OTHER, flops, nbytes, float(f"{milliseconds:.2g}")
            spent[key].append(milliseconds)
    points = [
        Point(
            kind=kind,
            flops_per_byte=flops / nbytes,
            flops_per_second=flops * len(times) / (sum(times) / 1e3),
            time_ms=sum(times),
            calls=len(times),
        )
        for (kind, flops, nbytes, _), times in spent.items()
    ]
    if not points:
        raise UsageError("no operator of the step has FLOPs to draw", hint="draw another figure")
    shown = _without_smallest(points, _NEGLIGIBLE * sum(ops.time_ms))
    return Roofline(
        points=tuple(shown),
        hidden_ms=sum(ops.time_ms) - sum(point.time_ms for point in shown),
        total_ms=sum(ops.time_ms),
        roof=step.roof,
    )


def _without_smallest(points: list[Point], most_ms: float) -> list[Point]:
    """Return the points, the longest first, without the smallest that take so long together."""
    ranked = sorted(points, key=lambda point: -point.time_ms)
    left = most_ms
    while len(ranked) > 1 and ranked[-1].time_ms <= left:
        left -= ranked.pop().time_ms
    return ranked


def roofline_figure(report: Report, step: Step, width: float) -> Figure:
    """Draw the operators under the roof.

    Raises:
        UsageError: the device's limits are not known, or no operator has FLOPs.
    """
    from torchgauge.figures.paper import own_style, paper_figure, settle

    shown = roofline_of(step, report.scenario.device)
    with own_style():
        figure, axes = paper_figure(width, _HEIGHT, said(f"Roofline: {about(report)}"))
        _draw(axes, shown, width)
        settle(figure)
    return figure


def _series(points: tuple[Point, ...]) -> dict[str, list[Point]]:
    """Return the points by kind, the kind that takes most time first; the last ones are one."""
    spent: defaultdict[str, float] = defaultdict(float)
    for point in points:
        spent[point.kind] += point.time_ms
    named = sorted(spent, key=lambda kind: (kind == OTHER, -spent[kind]))[: len(SERIES)]
    found: dict[str, list[Point]] = {kind: [] for kind in named if kind != OTHER}
    for point in points:
        found.setdefault(point.kind if point.kind in found else OTHER, []).append(point)
    return found


def _draw(axes: Axes, shown: Roofline, width: float) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    styles = dict(zip(_series(shown.points), SERIES, strict=False))
    for kind, points in _series(shown.points).items():
        color, marker = styles.get(kind, OTHERS) if kind != OTHER else OTHERS
        axes.scatter(
            [point.flops_per_byte for point in points],
            [point.flops_per_second for point in points],
            s=[4 + 260 * point.time_ms / shown.total_ms for point in points],
            c=color, marker=marker, alpha=0.75, linewidths=0.3, edgecolors="white",
            label=said(kind_name(kind)), zorder=3,
        )  # fmt: skip
    _draw_roof(axes, shown)
    axes.set_xlabel(said("Arithmetic intensity (FLOP/byte)"))
    axes.set_ylabel(said("Throughput (FLOP/s)"))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(lambda value, _: _short(format_count(value)))
    for handle in show_legend(axes, width).legend_handles:
        if handle is not None:
            handle.set_sizes([14])  # type: ignore[attr-defined]
    share = format_rough_share(shown.hidden_ms, shown.total_ms)
    words = f"area: time\nnot shown: {share} of the time,\nwithout FLOPs or negligible"
    axes.text(
        0.99, 0.02, said(words),
        transform=axes.transAxes, ha="right", va="bottom", fontsize=5.5, color=DIM,
    )  # fmt: skip


def _draw_roof(axes: Axes, shown: Roofline) -> None:
    roof = shown.roof
    ridge = roof.flops_per_second / roof.bytes_per_second
    intensities = [point.flops_per_byte for point in shown.points]
    left, right = min((*intensities, ridge / 30)) / 2, max((*intensities, ridge)) * 4
    low = min(point.flops_per_second for point in shown.points)
    axes.plot(
        [left, ridge, right],
        [left * roof.bytes_per_second, roof.flops_per_second, roof.flops_per_second],
        color=TEXT, linewidth=0.9, zorder=2, gid="roof",
    )  # fmt: skip
    axes.set(xlim=(left, right), ylim=(low / 2, roof.flops_per_second * 3))
    middle = (left * ridge) ** 0.5
    peak = _short(format_count(roof.flops_per_second, "FLOP/s"))
    bandwidth = _short(format_count(roof.bytes_per_second, "B/s"))
    _note(axes, peak, (ridge, roof.flops_per_second), (0, 2.5))
    _note(axes, bandwidth, (middle, middle * roof.bytes_per_second), (4, -7))


def _note(axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float]) -> None:
    axes.annotate(text, at, xytext=offset, textcoords="offset points", fontsize=6)


def _short(text: str) -> str:
    """Return a figure without zeros at its end.

    >>> _short("19.50 TFLOP/s"), _short("989.00 TFLOP/s"), _short("100 G")
    ('19.5 TFLOP/s', '989 TFLOP/s', '100 G')
    """
    number, _, unit = text.partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}".rstrip()
