"""The graph of a model: folded as in the terminal, drawn or as text for Graphviz and Mermaid."""

from __future__ import annotations

from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.figures.graph.cut import cut
from torchgauge.figures.graph.dot import dot_text
from torchgauge.figures.graph.mermaid import mermaid_text
from torchgauge.figures.graph.model import graph_of
from torchgauge.figures.needs import step_for

FORMATS = ("dot", "mermaid")
_MOST_NODES = 250
"""More than anybody reads; Mermaid refuses graphs of more than 500 edges."""


def graph_text(report: Report, language: str = "dot", *, depth: int | None = None) -> str:
    """Return the graph as text; see ``Report.graph``."""
    if language not in FORMATS:
        raise UsageError(
            f"there is no graph in {language!r}", hint=f"the formats are {', '.join(FORMATS)}"
        )
    graph = graph_of(report, step_for(report, "the graph"), depth=depth, most_nodes=_MOST_NODES)
    if depth is None:
        graph = cut(graph, _MOST_NODES)
    return dot_text(graph) if language == "dot" else mermaid_text(graph)
