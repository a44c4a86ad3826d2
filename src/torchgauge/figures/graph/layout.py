"""Where the boxes of a graph lie: in each cluster its items in rows, what flows goes down.

An item's row is the longest way to it from the items before it. Lines to the next row are straight;
longer ones go beside the rows in lanes of their own, so that no line crosses a box. Lengths are
inches, ``y`` goes down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torchgauge.figures.graph.model import Cluster, Edge, Graph, Node

ENTRY, EXIT = -1, -2
"""Stand for the outside of a cluster where an item would be named."""
HEIGHT, PAD, TITLE = 0.19, 0.09, 0.15
GAP, SHORT_GAP, BESIDE, LANE = 0.21, 0.15, 0.16, 0.1
_TURN, _SIDE, _BEHIND = 0.06, 0.07, 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A node or cluster in its place."""

    item: Node | Cluster
    x: float
    """Of its left side."""
    y: float
    """Of its upper side."""
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What flows from one item to another of the same cluster, or through its border."""

    points: tuple[tuple[float, float], ...]
    label: str = ""
    has_arrow: bool = True
    is_known: bool = True


@dataclass(slots=True, kw_only=True)
class Layout:
    """A graph in its place."""

    width: float = 0.0
    height: float = 0.0
    port: float = 0.0
    """Where lines come in above and go out below, from the left."""
    boxes: list[Box] = field(default_factory=list)
    """Clusters before what lies in them."""
    lines: list[Line] = field(default_factory=list)

    def moved(self, x: float, y: float) -> Layout:
        """Return it with everything moved."""
        return Layout(
            width=self.width,
            height=self.height,
            port=self.port,
            boxes=[replace(box, x=box.x + x, y=box.y + y) for box in self.boxes],
            lines=[
                replace(line, points=tuple((px + x, py + y) for px, py in line.points))
                for line in self.lines
            ],
        )


@dataclass(frozen=True, slots=True)
class _Link:
    """An edge as one cluster sees it: between two of its items."""

    source: int
    target: int
    label: str
    is_known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How wide texts are, in inches."""

    of_box: Callable[[Node | Cluster], float]
    """A node, or the title of a cluster."""
    of_label: Callable[[str], float]


def layout_of(graph: Graph, labels: Mapping[tuple[int, int], str], sizes: Sizes) -> Layout:
    """Return where everything lies.

    Args:
        graph: the graph; its root is not drawn as a box.
        labels: what is written on edges, by source and target.
        sizes: how wide texts are.
    """
    return _Room(graph.root, graph.edges, labels, sizes, is_root=True).laid_out()


class _Room:
    """One cluster: its items are laid out first, then put in rows."""

    def __init__(
        self,
        cluster: Cluster,
        edges: Sequence[Edge],
        labels: Mapping[tuple[int, int], str],
        sizes: Sizes,
        *,
        is_root: bool = False,
    ) -> None:
        self._cluster, self._is_root, self._sizes = cluster, is_root, sizes
        self._links = _links(cluster, edges, labels)
        self._items = [
            _Room(item, edges, labels, sizes).laid_out()
            if isinstance(item, Cluster)
            else _alone(item, sizes)
            for item in cluster.inside
        ]
        self._row_of = _rows(len(self._items), self._links)
        self._rows: list[list[int]] = [[] for _ in range(max(self._row_of, default=0) + 1)]
        for item, row in enumerate(self._row_of):
            self._rows[row].append(item)
        self._tops: list[float] = []
        self._bottoms: list[float] = []
        self._rights: list[float] = []
        self._lanes: list[tuple[int, int, float]] = []

    def laid_out(self) -> Layout:
        """Return the cluster with its upper left corner at the origin."""
        pad = 0.02 if self._is_root else PAD
        title = 0.0 if self._is_root else self._sizes.of_box(self._cluster)
        starts, extents = zip(*map(self._extent, self._rows), strict=True)
        axis = max(starts)
        placed, y = dict[int, Layout](), pad if self._is_root else TITLE + SHORT_GAP
        for number, row in enumerate(self._rows):
            tall = max(self._items[i].height for i in row)
            x = axis - starts[number]
            for i in row:
                item = self._items[i]
                placed[i] = item.moved(x, y + (tall - item.height) / 2)
                placed[i].port += x
                x += item.width + BESIDE
            self._tops.append(y)
            self._bottoms.append(y + tall)
            self._rights.append(x - BESIDE)
            y += tall + self._gap(number)
        height = y - self._gap(len(self._rows) - 1) + (pad if self._is_root else SHORT_GAP)
        entry = axis, TITLE if title > axis else 0.0
        lines = [self._line(link, placed, entry, (axis, height)) for link in self._links]
        right = max([axis + max(extents), title, *(x for _, _, x in self._lanes)])
        whole = Layout(width=right + 2 * pad, height=height, port=axis)
        if not self._is_root:
            whole.boxes.append(
                Box(item=self._cluster, x=-pad, y=0, width=whole.width, height=height)
            )
        for item in placed.values():
            whole.boxes += item.boxes
            whole.lines += item.lines
        whole.lines += lines
        moved = whole.moved(pad, 0)
        moved.port += pad
        return moved

    def _extent(self, row: Sequence[int]) -> tuple[float, float]:
        """Return how far a row reaches to the left and right of the axis, with its labels.

        One item has its port on the axis, several are centred.
        """
        items = [self._items[i] for i in row]
        width = sum(item.width + BESIDE for item in items) - BESIDE
        left = items[0].port if len(items) == 1 else width / 2
        right, x = width - left, -left
        for i, item in zip(row, items, strict=True):
            labels = [link.label for link in self._links if link.source == i and link.label]
            longest = max(map(self._sizes.of_label, labels), default=0.0)
            right = max(right, x + item.port + longest + _BEHIND) if longest else right
            x += item.width + BESIDE
        return left, right

    def _gap(self, row: int) -> float:
        """Return the room below a row: more where something is written on its lines."""
        sources = self._rows[row]
        labelled = any(link.label and link.source in sources for link in self._links)
        return GAP if labelled else SHORT_GAP

    def _line(
        self,
        link: _Link,
        placed: Mapping[int, Layout],
        entry: tuple[float, float],
        leave: tuple[float, float],
    ) -> Line:
        last = len(self._rows)
        start_row = -1 if link.source == ENTRY else self._row_of[link.source]
        end_row = last if link.target == EXIT else self._row_of[link.target]
        start = entry if link.source == ENTRY else _bottom(placed[link.source])
        end = leave if link.target == EXIT else _top(placed[link.target])
        if end_row == start_row + 1:
            points = [start, end]
        else:
            points = self._around(start, end, start_row, end_row)
        return Line(
            points=tuple(points), label=link.label, is_known=link.is_known,
            has_arrow=link.target != EXIT,
        )  # fmt: skip

    def _around(
        self, start: tuple[float, float], end: tuple[float, float], start_row: int, end_row: int
    ) -> list[tuple[float, float]]:
        """Return the way beside the rows in between, in a lane that is free."""
        first, last = sorted((start_row, end_row))
        count = len(self._rows)
        between = range(max(first, 0), min(last, count - 1) + 1)
        x = max(self._rights[row] for row in between) + LANE
        while any(
            abs(x - other) < 0.9 * LANE and first < upto and since < last
            for since, upto, other in self._lanes
        ):
            x += LANE
        self._lanes.append((first, last, x))
        leaves = (self._bottoms[start_row] if start_row >= 0 else TITLE - _TURN / 2) + _TURN
        arrives = (self._tops[end_row] if end_row < count else end[1]) - _TURN
        begin = start if start_row < 0 else (start[0] + _SIDE, start[1])
        finish = end if end_row >= count else (end[0] + _SIDE, end[1])
        return [
            begin, (begin[0], leaves), (x, leaves), (x, arrives), (finish[0], arrives), finish,
        ]  # fmt: skip


def _alone(node: Node, sizes: Sizes) -> Layout:
    width = sizes.of_box(node)
    box = Box(item=node, x=0, y=0, width=width, height=HEIGHT)
    return Layout(width=width, height=HEIGHT, port=width / 2, boxes=[box])


def _bottom(item: Layout) -> tuple[float, float]:
    return item.port, item.boxes[0].y + item.boxes[0].height


def _top(item: Layout) -> tuple[float, float]:
    return item.port, item.boxes[0].y


def _links(
    cluster: Cluster, edges: Sequence[Edge], labels: Mapping[tuple[int, int], str]
) -> list[_Link]:
    """Return the edges between different items of a cluster and through its border, each once."""
    home: dict[int, int] = {}
    for number, item in enumerate(cluster.inside):
        nodes = [item] if isinstance(item, Node) else item.nodes()
        home.update((node.index, number) for node in nodes)
    found: dict[tuple[int, int], _Link] = {}
    for edge in edges:
        source, target = home.get(edge.source, ENTRY), home.get(edge.target, EXIT)
        if source == target or (source == ENTRY and target == EXIT):
            continue
        is_inside = source != ENTRY and target != EXIT
        label = labels.get((edge.source, edge.target), "") if is_inside else ""
        known = found.get((source, target))
        if known is None or (label and not known.label):
            found[source, target] = _Link(source, target, label, edge.is_known)
    return list(found.values())


def _rows(count: int, links: Sequence[_Link]) -> list[int]:
    """Return the row of each item; a line back, which folded loops have, moves none."""
    rows = [0] * count
    for item in range(count):
        before = [rows[link.source] for link in links if link.target == item > link.source >= 0]
        rows[item] = max(before, default=-1) + 1
    return rows
