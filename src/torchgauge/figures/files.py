"""A figure as the content of a file."""

from __future__ import annotations

import io

from torchgauge.facts.report import Report
from torchgauge.figures import TEXTS


def figure_content(report: Report, name: str, suffix: str, depth: int | None = None) -> str | bytes:
    """Return what the file of a figure holds.

    Args:
        report: what is drawn.
        name: one of ``FIGURES``.
        suffix: one of ``PICTURES`` or ``TEXTS``.
        depth: of the graph: show modules down to this depth.

    Raises:
        UsageError: the report lacks what the figure needs.
        MissingExtraError: matplotlib is not installed.
    """
    if suffix in TEXTS:
        return report.graph(TEXTS[suffix], depth=depth)  # type: ignore[arg-type]
    plot = report.plot
    figure = plot.graph(depth=depth) if name == "graph" else getattr(plot, name)()
    stream = io.BytesIO()
    figure.savefig(stream, format=suffix.removeprefix("."))
    return stream.getvalue()
