"""The graph that is drawn: modules as nested clusters, equal siblings as one, nodes and edges.

From the ``Flow`` of a step, folded as the terminal folds its table. A node is what a module call
does that calls no other, or the operators of a call between those of its sub-modules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from torchgauge.errors import UsageError
from torchgauge.facts.pictures.step import Flow, Step
from torchgauge.facts.report import Report
from torchgauge.figures.graph.folds import Folds

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A box without boxes in it."""

    index: int
    name: str
    """Of a module its path below the enclosing cluster, else its operators or the input's name."""
    type: str = ""
    """Class of the module; ``""`` for operators, inputs and outputs."""
    kind: str = "module"
    """``"module"``, ``"operators"``, ``"input"``, ``"output"``, or ``"more"`` for what was cut."""
    path: str = ""
    params: int = 0
    count: int = 1
    """How many equal modules it stands for."""
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A module with what it calls, in the order of execution."""

    index: int
    name: str
    type: str
    path: str = ""
    count: int = 1
    failed: bool = False
    inside: tuple[Node | Cluster, ...] = ()

    def nodes(self) -> Iterator[Node]:
        """Yield the nodes, those of clusters inside too."""
        for item in self.inside:
            if isinstance(item, Node):
                yield item
            else:
                yield from item.nodes()

    def clusters(self) -> Iterator[Cluster]:
        """Yield the cluster and those inside it."""
        yield self
        for item in self.inside:
            if isinstance(item, Cluster):
                yield from item.clusters()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Something that flows from a node to a later one."""

    source: int
    target: int
    shape: str
    """Of the largest tensor: ``"[1, 64, 56, 56] float32"``, ``""`` where it is not known."""
    is_known: bool = True
    """``False`` into the layer that failed: what ran before it is all that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A model's graph."""

    root: Cluster
    edges: tuple[Edge, ...]
    depth: int
    """Modules are shown down to this depth."""
    full_depth: int
    """Down to which there are modules."""


@dataclass(slots=True)
class _Box:
    """A cluster or node while it is put together."""

    key: Key
    call: int
    """A call that it stands for, -1 for an input or output."""
    label: str = ""
    order: int = 0
    inside: list[_Box] = field(default_factory=list)
    is_node: bool = False


def graph_of(
    report: Report, step: Step, *, depth: int | None = None, most_nodes: int | None = None
) -> Graph:
    """Return the graph of a step.

    Args:
        report: its report.
        step: the step.
        depth: show modules down to this depth.
        most_nodes: where no depth is given, go as deep as this allows.

    Raises:
        UsageError: the depth is no depth.
    """
    _check_depth(depth)
    flow = _Flow(report, step)
    if depth is not None:
        return flow.graph(depth)
    graph = flow.graph(flow.full_depth)
    while most_nodes and graph.depth > 1 and sum(1 for _ in graph.root.nodes()) > most_nodes:
        graph = flow.graph(graph.depth - 1)
    return graph


def _check_depth(depth: int | None) -> None:
    """Refuse what is no depth.

    Raises:
        UsageError: it is no whole number from 1 on.
    """
    if depth is not None and (not isinstance(depth, int) or isinstance(depth, bool) or depth < 1):
        raise UsageError(f"the depth of a graph cannot be {depth!r}", hint="give 1 or more")


class _Flow:
    def __init__(self, report: Report, step: Step) -> None:
        self.report = report
        self.texts = step.texts
        self.flow: Flow = step.flow
        self.folds = Folds(report)
        self.paths = [step.texts[path] for path in step.flow.calls]
        self.depths = self._call_depths()
        self.full_depth = max(self.depths, default=0) or 1
        self.ordinals = self._call_ordinals()

    def _call_depths(self) -> list[int]:
        depths: list[int] = []
        for parent in self.flow.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return depths

    def _call_ordinals(self) -> list[int]:
        """Return how often a call's module had been called before it."""
        seen: defaultdict[str, int] = defaultdict(int)
        found = []
        for path in self.paths:
            found.append(seen[path])
            seen[path] += 1
        return found

    def graph(self, depth: int) -> Graph:
        """Return the graph down to a depth."""
        return _Graph(self, depth).made()


class _Graph:
    """One graph: boxes by key, and for each node of the flow its box."""

    def __init__(self, flow: _Flow, depth: int) -> None:
        self._of, self._depth = flow, depth
        self._boxes: dict[Key, _Box] = {}
        self._top = _Box(key=("root",), call=0)
        self._seen: defaultdict[tuple[Key, int], int] = defaultdict(int)
        self._box_of: list[_Box] = []
        self._numbers: dict[Key, int] = {}
        self._failed: _Box | None = None

    def made(self) -> Graph:
        """Return the graph."""
        flow = self._of.flow
        for node, call in enumerate(flow.node_call):
            self._box_of.append(self._box(node, call))
        self._add_failed()
        root = self._cluster(self._top)
        return Graph(
            root=root, edges=tuple(self._edges()), depth=self._depth,
            full_depth=self._of.full_depth,
        )  # fmt: skip

    def _box(self, node: int, call: int) -> _Box:
        """Return the box of a node of the flow, which is made when it is the first one's."""
        flow = self._of.flow
        label = self._of.texts[flow.node_label[node]]
        if call < 0:
            kind = "input" if flow.node_op[node] < 0 else "output"
            return self._child(self._top, (kind, node), -1, label or kind, is_node=True)
        shown = self._shown(call)
        if shown != call or not label or self._of.depths[call] >= self._depth:
            return self._leaf(shown)
        parent = self._place(shown)
        times = self._seen[parent.key, call]
        self._seen[parent.key, call] += 1
        return self._child(parent, ("work", *parent.key, times), call, label, is_node=True)

    def _leaf(self, call: int) -> _Box:
        above = self._of.flow.parents[call]
        parent = self._place(above) if above >= 0 else self._top
        return self._child(parent, self._key(call), call, "", is_node=True)

    def _shown(self, call: int) -> int:
        """Return the call, or the one around it that is the deepest to be shown."""
        while self._of.depths[call] > self._depth:
            call = self._of.flow.parents[call]
        return call

    def _key(self, call: int) -> Key:
        of = self._of
        return ("call", of.folds.first(of.paths[call]), of.ordinals[call])

    def _place(self, call: int) -> _Box:
        """Return the cluster of a call."""
        parent = self._of.flow.parents[call]
        if parent < 0:
            return self._top
        if self._of.depths[call] >= self._depth or not self._calls_others(call):
            return self._place(parent)
        return self._child(self._place(parent), self._key(call), call, "", is_node=False)

    def _calls_others(self, call: int) -> bool:
        following = call + 1
        parents = self._of.flow.parents
        return following < len(parents) and parents[following] == call

    def _child(self, parent: _Box, key: Key, call: int, label: str, *, is_node: bool) -> _Box:
        box = self._boxes.get(key)
        if box is None:
            box = _Box(key=key, call=call, label=label, order=len(self._boxes), is_node=is_node)
            self._boxes[key] = box
            parent.inside.append(box)
        return box

    def _add_failed(self) -> None:
        """Add the layer that failed where none of its operators had run."""
        failure = self._of.report.failure
        flow = self._of.flow
        broken = [call for call, done in enumerate(flow.completed) if not done]
        if failure is None or not broken:
            return
        call = self._shown(broken[-1])
        if self._key(call) in self._boxes or self._of.flow.parents[call] < 0:
            return
        self._failed = self._leaf(call)

    def _cluster(self, box: _Box) -> Cluster:
        inside = tuple(
            self._node(child) if child.is_node else self._cluster(child) for child in box.inside
        )
        name, kind, path, count = self._described(box.call)
        return Cluster(
            index=self._number(box), name=name, type=kind, path=path, count=count,
            failed=self._is_failed(path), inside=inside,
        )  # fmt: skip

    def _node(self, box: _Box) -> Node:
        if box.call < 0:
            kind = str(box.key[0])
            name = kind if box.label.isdigit() else box.label  # an output without a name
            return Node(index=self._number(box), name=name, kind=kind)
        if box.label:
            return Node(index=self._number(box), name=box.label, kind="operators")
        name, kind, path, count = self._described(box.call)
        return Node(
            index=self._number(box), name=name, type=kind, path=path, count=count,
            params=self._of.report.modules[path].params, failed=self._is_failed(path),
        )  # fmt: skip

    def _is_failed(self, path: str) -> bool:
        failure = self._of.report.failure
        return failure is not None and failure.path == path

    def _described(self, call: int) -> tuple[str, str, str, int]:
        """Return name, class, path and number of what a call stands for."""
        report, of = self._of.report, self._of
        path = of.paths[call] if of.paths else ""
        module = report.modules[path]
        parent = of.flow.parents[call] if of.paths else -1
        if parent < 0:
            return report.model_name, module.type, path, 1
        name, count = of.folds.name(path, of.paths[parent])
        if of.ordinals[call]:
            name = f"{name} (call {of.ordinals[call] + 1})"
        return name, module.type, path, count

    def _number(self, box: _Box) -> int:
        return self._numbers.setdefault(box.key, len(self._numbers))

    def _edges(self) -> Iterator[Edge]:
        flow, texts, folds = self._of.flow, self._of.texts, self._of.folds
        found: dict[tuple[int, int], str] = {}
        for source, target, shape in zip(
            flow.edge_from, flow.edge_to, flow.edge_shape, strict=True
        ):
            calls = flow.node_call[source], flow.node_call[target]
            paths = [self._of.paths[call] if call >= 0 else "" for call in calls]
            if folds.are_apart(*paths):
                continue  # from one of the equal siblings to the next
            ends = self._number(self._box_of[source]), self._number(self._box_of[target])
            if ends[0] != ends[1]:
                found.setdefault(ends, texts[shape])
        for (first, second), text in found.items():
            yield Edge(source=first, target=second, shape=text)
        if self._failed is not None and self._box_of:
            inputs = self._of.report.failure.inputs if self._of.report.failure else ()
            shapes = [f"{list(v.shape)} {v.dtype}" for v in inputs if v.shape is not None]
            yield Edge(
                source=self._number(self._box_of[-1]), target=self._number(self._failed),
                shape=shapes[0] if shapes else "", is_known=False,
            )  # fmt: skip
