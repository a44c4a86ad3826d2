"""A graph in the language of Mermaid, which many wikis and code hosts draw."""

from __future__ import annotations

from collections.abc import Iterator

from torchgauge.figures.graph.model import Cluster, Graph, Node
from torchgauge.figures.graph.texts import EdgeTexts, head, title, type_name

_SHAPES = {
    "module": '["{}"]', "operators": '(["{}"])', "input": '[/"{}"/]', "output": '[/"{}"/]',
    "more": '["{}"]',
}  # fmt: skip
_CLASSES = (
    "classDef parameters fill:#dcebf7,stroke:#57606a,color:#1b1f24",
    "classDef failed fill:#ffffff,stroke:#b3151f,stroke-width:3px,color:#1b1f24",
)
_ESCAPED = {
    "#": "#35;", '"': "#quot;", "&": "#amp;", "<": "#lt;", ">": "#gt;", "`": "#96;", "\\": "#92;",
    "$": "#36;", "{": "#123;", "}": "#125;", "%": "#37;", ";": "#59;",
}  # fmt: skip


def mermaid_text(graph: Graph) -> str:
    """Return the graph as a flowchart."""
    texts = EdgeTexts(graph)
    lines = [f"%% {head(graph)}", "flowchart TB"]
    for item in (graph.root,):
        lines += _lines(item, "  ")
    for edge in graph.edges:
        arrow = "-->" if edge.is_known else "-.->"
        label = texts.text(edge.shape)
        shown = f"|{_quoted(label)}|" if label else ""
        lines.append(f"  n{edge.source} {arrow}{shown} n{edge.target}")
    lines += [f"  {line}" for line in _CLASSES]
    nodes = list(graph.root.nodes())
    boxes = [(f"n{node.index}", node.failed) for node in nodes]
    boxes += [(f"c{cluster.index}", cluster.failed) for cluster in graph.root.clusters()]
    failed = [name for name, is_failed in boxes if is_failed]
    heavy = [f"n{node.index}" for node in nodes if node.params and not node.failed]
    lines += [f"  class {','.join(heavy)} parameters"] if heavy else []
    lines += [f"  class {','.join(failed)} failed"] if failed else []
    return "\n".join(lines) + "\n"


def _lines(item: Node | Cluster, indent: str) -> Iterator[str]:
    text = _quoted(title(item), type_name(item))[1:-1]
    if isinstance(item, Node):
        yield f"{indent}n{item.index}{_SHAPES[item.kind].format(text)}"
        return
    yield f'{indent}subgraph c{item.index}["{text}"]'
    for below in item.inside:
        yield from _lines(below, f"{indent}  ")
    yield f"{indent}end"


def _quoted(*lines: str) -> str:
    """Return a text in quotes: Mermaid has numbers for what it would read as its own.

    >>> print(_quoted('a "b" <i>', "Linear"))
    "a #quot;b#quot; #lt;i#gt;<br>Linear"
    """
    escaped = ("".join(_ESCAPED.get(char, char) for char in line) for line in lines if line)
    return '"' + "<br>".join(escaped) + '"'
