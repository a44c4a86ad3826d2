"""The milliseconds of a step, by what they are spent in, stacked by phase."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.facts.time import StepTime
from torchgauge.facts.trace import Phase
from torchgauge.figures.axes import about, amount, name_bars, show_legend, time_unit
from torchgauge.figures.labels import plain, said, shortened
from torchgauge.figures.palette import OTHER, PHASES, kind_name
from torchgauge.units import format_milliseconds, format_rough_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 12
_ROW, _MARGIN = 0.16, 0.6
_LEAST_SHARE = 1e-6
"""What is smaller is what rounding left."""
_LEAST_NAMED = 0.005
"""Phases with a smaller share are drawn and not in the legend: nobody sees them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRow:
    """What time is spent in, by phase."""

    label: str
    phases: Mapping[Phase, float]
    """Milliseconds."""

    @property
    def total_ms(self) -> float:
        """Return the milliseconds of all phases."""
        return sum(self.phases.values())


def time_rows(time: StepTime, most: int = MOST_ROWS) -> list[TimeRow]:
    """Return the rows, the longest first; they sum to the step.

    A predicted step is split by kind of kernel, a measured one by operator. What its operators do
    not account for is with the others.
    """
    spent: defaultdict[str, defaultdict[Phase, float]] = defaultdict(lambda: defaultdict(float))
    rest = {
        Phase.FORWARD: time.forward_ms, Phase.LOSS: time.loss_ms,
        Phase.BACKWARD: time.backward_ms, Phase.OPTIMIZER: time.optimizer_ms,
    }  # fmt: skip
    for op in time.ops:
        label = kind_name(op.kernel) if time.predicted is not None else op.name
        spent[label][op.phase] += op.time_ms
        rest[op.phase] -= op.time_ms
    named = sorted(spent, key=lambda label: -sum(spent[label].values()))
    for label in named[most - 1 :] if len(named) > most else ():
        for phase, milliseconds in spent.pop(label).items():
            rest[phase] += milliseconds
    rows = [TimeRow(label=label, phases=dict(spent[label])) for label in named if label in spent]
    least = _LEAST_SHARE * time.total_ms
    left = {phase: value for phase, value in rest.items() if value > least}
    return [*rows, TimeRow(label=OTHER, phases=left)] if left else rows


def time_figure(report: Report, width: float) -> Figure:
    """Draw where the time of a step goes.

    Raises:
        UsageError: the report has no time, or it is zero.
    """
    from torchgauge.figures.paper import own_style, paper_figure, settle

    time = report.time
    if time is None:
        raise UsageError(
            "the report has no time to draw",
            hint="name a GPU, such as device='T4', or measure the model",
        )
    rows = time_rows(time)
    if not rows:
        raise UsageError("the step takes no time to draw", hint="draw another figure")
    with own_style():
        height = _ROW * len(rows) + _MARGIN
        figure, axes = paper_figure(width, height, said(f"Time of a step: {about(report)}"))
        _draw(axes, rows, width, time)
        unit = time_unit(max(row.total_ms for row in rows))
        how = "Predicted time" if time.predicted is not None else "Measured time"
        whole = format_milliseconds(time.total_ms)
        error = f" ± {time.predicted.error:.0%}".replace("%", " %") if time.predicted else ""
        axes.set_xlabel(f"{amount(how, unit)}{said(f'; step: {whole}')}{error}")
        settle(figure)
    return figure


def _shown(label: str, time: StepTime) -> str:
    """Return the name of a row: a kind is a word of ours, an operator is called as it is."""
    return said(label) if time.predicted is not None or label == OTHER else label


def _draw(axes: Axes, rows: list[TimeRow], width: float, time: StepTime) -> None:
    whole = sum(row.total_ms for row in rows)
    scale = time_unit(max(row.total_ms for row in rows)).size
    left = [0.0] * len(rows)
    for phase, (name, color) in PHASES.items():
        values = [row.phases.get(phase, 0.0) / scale for row in rows]
        if any(values):
            label = said(name) if sum(values) * scale >= _LEAST_NAMED * whole else f"_{name}"
            axes.barh(range(len(rows)), values, left=left, height=0.68, color=color, label=label)
        left = [start + value for start, value in zip(left, values, strict=True)]
    show_legend(axes, width)
    name_bars(
        axes,
        [shortened(plain(_shown(row.label, time)), int(width * 8)) for row in rows],
        left,
        [format_rough_share(row.total_ms, whole) for row in rows],
    )
