"""A graph in the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from torchgauge.figures.graph.model import Cluster, Graph, Node
from torchgauge.figures.graph.texts import EdgeTexts, head, title, type_name
from torchgauge.figures.palette import BAD, DIM

_DEFAULTS = (
    "rankdir=TB",
    'graph [fontname="sans-serif", fontsize=10, color="#c3cad1", style=rounded, nodesep=0.25, '
    "ranksep=0.3]",
    'node [fontname="sans-serif", fontsize=10, shape=box, style="rounded,filled", '
    'fillcolor=white, color="#57606a", margin="0.1,0.04", height=0.3]',
    f'edge [fontname="sans-serif", fontsize=8, color="#57606a", fontcolor="{DIM}", arrowsize=0.6]',
)
_FILLS = {"operators": "#fff3d6", "input": "#f0f2f4", "output": "#f0f2f4", "more": "#f0f2f4"}
_WITH_PARAMETERS = "#dcebf7"


def dot_text(graph: Graph) -> str:
    """Return the graph as a text for ``dot -Tsvg``."""
    texts = EdgeTexts(graph)
    name = _quoted(title(graph.root))
    lines = [f"// {head(graph)}", f"digraph {name} {{", *(f"  {line};" for line in _DEFAULTS)]
    lines.append(f"  label={name}; labelloc=t;")
    for item in graph.root.inside:
        lines += _lines(item, "  ")
    for edge in graph.edges:
        label = _quoted(texts.text(edge.shape))
        style = "" if edge.is_known else f', style=dashed, color="{BAD}"'
        lines.append(f"  n{edge.source} -> n{edge.target} [label={label}{style}];")
    return "\n".join([*lines, "}"]) + "\n"


def _lines(item: Node | Cluster, indent: str) -> Iterator[str]:
    if isinstance(item, Node):
        yield f"{indent}n{item.index} [{_look(item)}];"
        return
    yield f"{indent}subgraph cluster_{item.index} {{"
    color = f' color="{BAD}";' if item.failed else ""
    yield f"{indent}  label={_quoted(title(item), type_name(item))};{color}"
    for below in item.inside:
        yield from _lines(below, f"{indent}  ")
    yield f"{indent}}}"


def _look(node: Node) -> str:
    parts = [f"label={_quoted(title(node), type_name(node))}"]
    if node.kind != "module":
        parts.append(f'fillcolor="{_FILLS[node.kind]}"')
    elif node.params:
        parts.append(f'fillcolor="{_WITH_PARAMETERS}"')
    if node.failed:
        parts.append(f'color="{BAD}", penwidth=2')
    return ", ".join(parts)


def _quoted(*lines: str) -> str:
    r"""Return a text in quotes: Graphviz reads backslashes and ``&`` in them.

    >>> print(_quoted('a "b" &amp;', "Linear"))
    "a \"b\" &amp;amp;\nLinear"
    """
    escaped = (
        line.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
        for line in lines
        if line
    )
    return '"' + "\\n".join(escaped) + '"'
