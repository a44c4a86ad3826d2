"""What figures write on their axes and in their files: units that fit, and what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchgauge.facts.report import Report
from torchgauge.figures.labels import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit and how many bytes, milliseconds or parameters it is."""

    name: str
    size: float


_BYTES = tuple(
    Unit(name, 1024.0**power) for power, name in enumerate(("B", "KiB", "MiB", "GiB", "TiB"))
)
_TIMES = (Unit("µs", 1e-3), Unit("ms", 1.0), Unit("s", 1e3))
_COUNTS = (
    Unit("", 1.0), Unit("thousands", 1e3), Unit("millions", 1e6), Unit("billions", 1e9),
    Unit("trillions", 1e12),
)  # fmt: skip


def _largest(units: tuple[Unit, ...], value: float) -> Unit:
    return next((unit for unit in reversed(units) if value >= unit.size), units[0])


def byte_unit(most: float) -> Unit:
    """Return the unit in which so many bytes have one digit or more before the point.

    >>> byte_unit(3 * 2**30)
    Unit(name='GiB', size=1073741824.0)
    """
    return _largest(_BYTES, most * 1024 / 1000)  # as ``format_bytes``: never four digits


def time_unit(most_ms: float) -> Unit:
    """Return the unit for so many milliseconds.

    >>> time_unit(617.0).name, time_unit(0.2).name
    ('ms', 'µs')
    """
    return _largest(_TIMES, most_ms)


def count_unit(most: float) -> Unit:
    """Return the unit for such a count.

    >>> count_unit(25_557_032).name
    'millions'
    """
    return _largest(_COUNTS, most)


def about(report: Report) -> str:
    """Return what a report is about, in a line."""
    scenario = report.scenario
    batch = f", batch {report.batch_size}" if report.batch_size else ""
    return plain(f"{report.model_name}, {scenario.mode}{batch} on {scenario.device}")


def show_legend(
    axes: Axes, width: float, handles: Sequence[Any] = (), labels: Sequence[str] = ()
) -> Legend:
    """Put the legend above the axes, in rows as even as its names allow."""
    if not handles:
        handles, labels = axes.get_legend_handles_labels()
    letters = sum(len(label) + 5 for label in labels)
    rows = max(1, -(-letters // int(width * 15)))
    columns = -(-len(labels) // rows)
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, borderaxespad=0.3
    )


def name_bars(
    axes: Axes, names: Sequence[str], ends: Sequence[float], texts: Sequence[str]
) -> None:
    """Write on a bar chart what each bar is and how much; nothing beyond the longest one."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    most = max(ends)
    axes.set_xlim(0, most * 1.22)
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= most * 1.02])
    axes.spines["bottom"].set_bounds(0, most)
    for row, (end, text) in enumerate(zip(ends, texts, strict=True)):
        axes.annotate(
            text, (end, row), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6
        )
