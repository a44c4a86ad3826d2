"""A graph drawn: nested boxes, what flows between them, shapes where they change."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from torchgauge.facts.pictures.step import Step
from torchgauge.facts.report import Report
from torchgauge.figures.axes import about
from torchgauge.figures.graph.cut import cut
from torchgauge.figures.graph.layout import HEIGHT, TITLE, Box, Layout, Line, Sizes, layout_of
from torchgauge.figures.graph.model import Cluster, Graph, Node, graph_of
from torchgauge.figures.graph.texts import EdgeTexts, title, type_name
from torchgauge.figures.palette import BAD, DIM, LINE, TEXT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAME, _TYPE, _SHAPE = 6.0, 5.2, 4.8
"""Points of the texts, where nothing has to shrink."""
_TALLEST, _SMALLEST = 8.6, 0.72
"""What a page has room for: inches, and how much the drawing may shrink."""
_BELOW_LANE = 0.115
_MOST_ROWS = 20
"""Of a model that has more modules below its root, the first and the last ones are drawn."""
_FILLS = {
    "operators": "#fff3d6", "input": "#f0f2f4", "output": "#f0f2f4", "module": "#ffffff",
    "more": "#f0f2f4",
}  # fmt: skip
_WITH_PARAMETERS = "#dcebf7"
_ROOMS = ("#fafbfc", "#f3f5f7")


def graph_figure(report: Report, step: Step, width: float, depth: int | None) -> Figure:
    """Draw the graph of a step.

    Raises:
        UsageError: the depth is no depth.
    """
    from torchgauge.figures.paper import check_width, own_style, page_figure

    check_width(width)
    with own_style():
        graph = graph_of(report, step, depth=depth)
        layout = _layout(graph)
        while depth is None and graph.depth > 1 and not _fits(layout, width):
            graph = graph_of(report, step, depth=graph.depth - 1)
            layout = _layout(graph)
        if depth is None and not _fits(layout, width):
            layout = _layout(cut(graph, _MOST_ROWS))
        scale = min(1.0, width / layout.width)
        figure, axes = page_figure(width, layout.height * scale, f"Graph: {about(report)}")
        spare = (width / scale - layout.width) / 2
        axes.set_xlim(-spare, layout.width + spare)
        axes.set_ylim(layout.height, 0)
        _draw(axes, layout, scale)
    return figure


def _fits(layout: Layout, width: float) -> bool:
    scale = min(1.0, width / layout.width)
    return layout.height * scale <= _TALLEST and scale >= _SMALLEST


def _layout(graph: Graph) -> Layout:
    return layout_of(graph, _labels(graph), Sizes(of_box=_width, of_label=_label_width))


def _labels(graph: Graph) -> dict[tuple[int, int], str]:
    """Return what is written on edges: a shape once for each node, where the node changes it."""
    texts = EdgeTexts(graph)
    taken: defaultdict[int, set[str]] = defaultdict(set)
    for edge in graph.edges:
        taken[edge.target].add(edge.shape)
    found: dict[tuple[int, int], str] = {}
    labelled: set[tuple[int, str]] = set()
    for edge in graph.edges:
        said = edge.source, edge.shape
        if edge.shape and edge.shape not in taken[edge.source] and said not in labelled:
            labelled.add(said)
            found[edge.source, edge.target] = texts.short(edge.shape)
    return found


def _width(item: Node | Cluster) -> float:
    name, kind = _lengths(item)
    return name + kind + (0.2 if isinstance(item, Node) else 0.1)


def _label_width(label: str) -> float:
    from torchgauge.figures.paper import text_inches

    return text_inches(label, _SHAPE)


def _lengths(item: Node | Cluster) -> tuple[float, float]:
    """Return the inches of a box's name, and of its class with the space before it."""
    from torchgauge.figures.paper import text_inches

    kind = type_name(item)
    gap = 0.05 if kind else 0.0
    return text_inches(title(item), _NAME), text_inches(kind, _TYPE) + gap


def _draw(axes: Axes, layout: Layout, scale: float) -> None:
    rooms = 0
    for box in layout.boxes:
        if isinstance(box.item, Cluster):
            _draw_box(axes, box, scale, _ROOMS[rooms % 2], LINE)
            rooms += 1
    for line in layout.lines:
        _draw_line(axes, line, scale)
    for box in layout.boxes:
        if isinstance(box.item, Node):
            node = box.item
            has_own = node.kind == "module" and node.params
            _draw_box(axes, box, scale, _WITH_PARAMETERS if has_own else _FILLS[node.kind], DIM)
        _write(axes, box, scale)


def _draw_box(axes: Axes, box: Box, scale: float, fill: str, edge: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    is_round = isinstance(box.item, Node) and box.item.kind != "module"
    axes.add_patch(
        FancyBboxPatch(
            (box.x, box.y), box.width, box.height,
            boxstyle=f"round,pad=0,rounding_size={HEIGHT / 2 if is_round else 0.035}",
            facecolor=fill, edgecolor=BAD if box.item.failed else edge,
            linewidth=(1.4 if box.item.failed else 0.5) * scale,
            zorder=3 if isinstance(box.item, Node) else 1,
            gid=f"{'node' if isinstance(box.item, Node) else 'cluster'}-{box.item.index}",
        )
    )  # fmt: skip


def _write(axes: Axes, box: Box, scale: float) -> None:
    item = box.item
    name, kind = _lengths(item)
    is_node = isinstance(item, Node)
    left = box.x + ((box.width - name - kind) / 2 if is_node else 0.06)
    middle = box.y + (box.height if is_node else TITLE) / 2
    color = BAD if item.failed else TEXT
    axes.text(
        left, middle, title(item), fontsize=_NAME * scale, color=color, va="center_baseline",
        zorder=4,
    )  # fmt: skip
    if item.type:
        axes.text(
            left + name + kind, middle, type_name(item), fontsize=_TYPE * scale,
            color=BAD if item.failed else DIM, ha="right", va="center_baseline", zorder=4,
        )  # fmt: skip


def _draw_line(axes: Axes, line: Line, scale: float) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    color = DIM if line.is_known else BAD
    codes, points = _rounded(line.points)
    axes.add_patch(
        FancyArrowPatch(
            path=Path(points, codes), arrowstyle="-|>" if line.has_arrow else "-",
            mutation_scale=4.5 * scale, linewidth=0.55 * scale, color=color, zorder=2,
            linestyle="-" if line.is_known else (0, (3, 2)), capstyle="butt", gid="flow",
        )
    )  # fmt: skip
    if line.label:
        (x, y), (_, below) = line.points[0], line.points[1]
        lower = min((below - y) / 2, 0.08) if len(line.points) == 2 else _BELOW_LANE
        axes.text(
            x + 0.03, y + lower, line.label,
            fontsize=_SHAPE * scale, color=color, va="center_baseline", zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.7},
        )  # fmt: skip


def _rounded(
    points: tuple[tuple[float, float], ...], radius: float = 0.05
) -> tuple[list[int], list[tuple[float, float]]]:
    """Return the codes and points of a way whose corners are round; two points make an S."""
    from matplotlib.path import Path

    move, line, curve, bend = map(int, (Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CURVE4))
    first, last = points[0], points[-1]
    if len(points) == 2:
        if abs(first[0] - last[0]) < 1e-6:
            return [move, line], [first, last]
        middle = (first[1] + last[1]) / 2
        return [move, bend, bend, bend], [first, (first[0], middle), (last[0], middle), last]
    codes, found = [move], [first]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        codes += [line, curve, curve]
        found += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
    return [*codes, line], [*found, last]


def _towards(
    start: tuple[float, float], end: tuple[float, float], most: float
) -> tuple[float, float]:
    """Return the point so far from one point to another, the middle at most."""
    x, y = end[0] - start[0], end[1] - start[1]
    length = abs(x) + abs(y)  # one of them is zero
    share = min(most / length, 0.5) if length else 0.0
    return start[0] + x * share, start[1] + y * share
