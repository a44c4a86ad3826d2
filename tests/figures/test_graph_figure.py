"""The drawn graph: every node in its cluster, nothing on top of anything else."""

from __future__ import annotations

from itertools import combinations

import pytest
from drawn import Residual, failed, texts, trained
from torch import nn

import torchgauge as tg
from torchgauge.figures.graph.drawing import graph_figure
from torchgauge.figures.graph.layout import Sizes, layout_of
from torchgauge.figures.graph.model import Cluster, Node, graph_of
from torchgauge.reports import step_of

SIZES = Sizes(of_box=lambda item: 0.05 * len(item.name) + 0.2, of_label=lambda text: 0.04)


def patches(figure, kind):
    found = {}
    for patch in figure.axes[0].patches:
        name, _, index = (patch.get_gid() or "").partition("-")
        if name == kind:
            found[int(index)] = patch.get_bbox()
    return found


class Branches(nn.Module):
    """Three ways side by side, one of them long."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.c = Inner()

    def forward(self, x):
        return self.a(x) + self.b(x) + self.c(x) + x


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return x * self.two(self.one(x) + x)


def branches():
    return tg.analyze(Branches(), (4,))


@pytest.mark.parametrize("name", ["trained", "failed", "branches"])
def test_every_node_lies_in_its_clusters_and_on_no_other(name):
    report = {"trained": trained, "failed": failed, "branches": branches}[name]()
    step = step_of(report.trace)
    figure = graph_figure(report, step, 7, None)
    graph = graph_of(report, step)
    nodes, clusters = patches(figure, "node"), patches(figure, "cluster")
    assert set(nodes) == {node.index for node in graph.root.nodes()}
    inside = [cluster for cluster in graph.root.clusters() if cluster is not graph.root]
    assert set(clusters) == {cluster.index for cluster in inside}
    for cluster in inside:
        box = clusters[cluster.index]
        for node in cluster.nodes():
            assert box.x0 < nodes[node.index].x0 < nodes[node.index].x1 < box.x1
            assert box.y0 < nodes[node.index].y0 < nodes[node.index].y1 < box.y1
    for one, other in combinations(nodes.values(), 2):
        assert not one.overlaps(other)


def test_no_line_crosses_a_node():
    for report in (trained(), branches()):
        graph = graph_of(report, step_of(report.trace))
        layout = layout_of(graph, {}, SIZES)
        boxes = [box for box in layout.boxes if isinstance(box.item, Node)]
        for line in layout.lines:
            for begin, end in zip(line.points, line.points[1:], strict=False):
                for box in boxes:
                    assert not crosses(begin, end, box), (box.item.name, line)


def crosses(begin, end, box):
    """Return whether a straight line passes through the inside of a box."""
    margin, steps = 1e-6, 50
    for number in range(steps + 1):
        share = number / steps
        x = begin[0] + (end[0] - begin[0]) * share
        y = begin[1] + (end[1] - begin[1]) * share
        if (
            box.x + margin < x < box.x + box.width - margin
            and box.y + margin < y < box.y + box.height - margin
        ):
            return True
    return False


def test_branches_lie_side_by_side():
    report = branches()
    graph = graph_of(report, step_of(report.trace), depth=1)
    layout = layout_of(graph, {}, SIZES)
    rows = {box.item.name: round(box.y, 3) for box in layout.boxes}
    assert rows["a"] == rows["b"] == rows["c"]
    assert rows["x"] < rows["a"] < rows["add"] < rows["output"]


def test_shapes_are_written_where_they_change():
    found = texts(trained().plot.graph())
    assert found.count("4×8×16×16") == 1
    assert {"4×3×16×16", "4×8", "4×10", "Conv2d", "0–2 × 3"} <= set(found)


def test_the_failed_layer_is_red():
    figure = failed().plot.graph()
    head = next(node for node in nodes_of(failed()) if node.path == "head")
    (patch,) = [p for p in figure.axes[0].patches if p.get_gid() == f"node-{head.index}"]
    assert patch.get_edgecolor()[:3] == pytest.approx((0xB3 / 255, 0x15 / 255, 0x1F / 255))


def nodes_of(report):
    return graph_of(report, step_of(report.trace)).root.nodes()


def test_a_wide_graph_shrinks_to_the_page():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            for number in range(12):
                setattr(self, f"branch_with_a_long_name{number}x", nn.Linear(4, 4))

        def forward(self, x):
            return sum(layer(x) for layer in self.children())

    report = tg.analyze(Wide(), (4,))
    figure = report.plot.graph(width=3.5)
    assert figure.get_size_inches()[0] == 3.5
    left, right = figure.axes[0].get_xlim()
    for box in patches(figure, "node").values():
        assert left <= box.x0 < box.x1 <= right


def test_depth_is_the_readers_or_what_a_page_has_room_for():
    deep = nn.Sequential(*(nn.Sequential(Residual(n + 1)) for n in range(1)))
    for _ in range(3):
        deep = nn.Sequential(deep)
    report = tg.analyze(deep, (1, 4, 4))
    assert isinstance(graph_of(report, step_of(report.trace)).root, Cluster)
    shallow = patches(report.plot.graph(depth=1), "node")
    assert len(shallow) == 3
    many = nn.Sequential(*(nn.Sequential(nn.Linear(n + 1, n + 2), nn.ReLU()) for n in range(18)))
    report = tg.analyze(many, (1,))
    figure = report.plot.graph()
    assert len(patches(figure, "cluster")) == 0  # open, it would be higher than a page
    assert len(patches(figure, "node")) == 20


def test_of_a_long_model_the_first_and_last_modules_are_drawn():
    long = nn.Sequential(*(nn.Linear(n + 1, n + 2) for n in range(300)))
    report = tg.analyze(long, (1,))
    figure = report.plot.graph()
    assert figure.get_size_inches()[1] < 9
    found = texts(figure)
    assert {"… 283 more", "0", "299"} <= set(found)  # of 300 and input and output, 19 are there
    text = report.graph("mermaid")
    assert "… 53 more" in text
    assert text.count("-->") == 249
    assert "more" not in report.graph("dot", depth=1)
