"""``report.plot``: a figure of the report by each method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchgauge.deploy.extras import require
from torchgauge.facts.report import Report
from torchgauge.figures.needs import step_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN = 3.5
"""Inches: one column of a paper. Two are 7."""


def require_matplotlib() -> None:
    """Check that figures can be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", "plot", "draw figures")


class Plot:
    """The figures of a report, for papers: ``report.plot.memory().savefig("memory.pdf")``.

    Each method returns a ``matplotlib.figure.Figure`` of ``width`` inches. ``rcParams`` and pyplot
    stay as they are. Text stays text in SVG and PDF, and equal reports give equal files.
    """

    def __init__(self, report: Report) -> None:
        self._report = report

    def __repr__(self) -> str:
        return f"<figures of {self._report.model_name}: memory, parameters, roofline, graph, time>"

    def memory(self, *, width: float = COLUMN) -> Figure:
        """Return the live bytes over the step, stacked by role.

        Raises:
            UsageError: nothing ran, or the report was loaded or measured and has no trace.
            MissingExtraError: matplotlib is not installed.
        """
        require_matplotlib()
        from torchgauge.figures.memory import memory_figure

        return memory_figure(self._report, step_for(self._report, "the figure of memory"), width)

    def parameters(self, *, width: float = COLUMN) -> Figure:
        """Return the parameters by part of the model; the bars sum to ``totals.params``.

        Raises:
            UsageError: the model has no parameters.
            MissingExtraError: matplotlib is not installed.
        """
        require_matplotlib()
        from torchgauge.figures.parameters import parameters_figure

        return parameters_figure(self._report, width)

    def roofline(self, *, width: float = COLUMN) -> Figure:
        """Return the operators under the datasheet's limits of the GPU.

        Raises:
            UsageError: nothing ran, no time is predicted for the device, or there is no trace.
            MissingExtraError: matplotlib is not installed.
        """
        require_matplotlib()
        from torchgauge.figures.roofline import roofline_figure

        return roofline_figure(self._report, step_for(self._report, "the roofline"), width)

    def graph(self, *, width: float = COLUMN, depth: int | None = None) -> Figure:
        """Return the modules as nested boxes and what flows between them.

        Args:
            width: inches.
            depth: show modules down to this depth; as deep as a page has room by default.

        Raises:
            UsageError: nothing ran, or the report was loaded or measured and has no trace.
            MissingExtraError: matplotlib is not installed.
        """
        require_matplotlib()
        from torchgauge.figures.graph.drawing import graph_figure

        return graph_figure(self._report, step_for(self._report, "the graph"), width, depth)

    def time(self, *, width: float = COLUMN) -> Figure:
        """Return the milliseconds by kind of kernel, stacked by phase; they sum to the step.

        Of a measured report the rows are operators.

        Raises:
            UsageError: the report has no time.
            MissingExtraError: matplotlib is not installed.
        """
        require_matplotlib()
        from torchgauge.figures.time import time_figure

        return time_figure(self._report, width)
