"""A graph whose outermost row of modules is longer than a page: its middle is one box."""

from __future__ import annotations

from dataclasses import replace

from torchgauge.figures.graph.model import Edge, Graph, Node


def cut(graph: Graph, most: int) -> Graph:
    """Return the graph with at most so many boxes below the root, the first and last ones."""
    inside = graph.root.inside
    if len(inside) <= most:
        return graph
    first = most // 2
    last = len(inside) - (most - first - 1)
    left_out = inside[first:last]
    nodes = [n for item in left_out for n in ([item] if isinstance(item, Node) else item.nodes())]
    here = Node(index=nodes[0].index, name=f"… {len(left_out)} more", kind="more")
    hidden = {node.index for node in nodes}
    edges: dict[tuple[int, int], Edge] = {}
    for edge in graph.edges:
        source = here.index if edge.source in hidden else edge.source
        target = here.index if edge.target in hidden else edge.target
        if source != target:
            edges.setdefault((source, target), replace(edge, source=source, target=target))
    root = replace(graph.root, inside=(*inside[:first], here, *inside[last:]))
    return replace(graph, root=root, edges=tuple(edges.values()))
