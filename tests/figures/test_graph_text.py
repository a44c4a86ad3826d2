"""The graph as text: Graphviz and Mermaid read it, and names stay names."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from drawn import Network, Residual, failed, trained
from torch import nn

import torchgauge as tg
from torchgauge.errors import UsageError
from torchgauge.figures.graph.model import graph_of
from torchgauge.reports import step_of

HOSTILE = (
    'a"b', "</script><script>alert(1)</script>", "two\nlines", "\u202eright to left",
    "back\\slash\\", "a & b &lt; c", "`code` #quot; %% end", "end", "名字", "x" * 10_000,
    "{}[]()|;",
)  # fmt: skip


EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "simple_cnn.py"
NAMES = ("simple_cnn", "residual", "network", "failed_network")


@cache
def report_of(name: str) -> tg.Report:
    if name == "simple_cnn":
        return tg.analyze(f"{EXAMPLE}:SimpleCNN", (3, 224, 224))
    if name == "residual":
        return tg.analyze(Residual(), (8, 8, 8))
    return trained() if name == "network" else failed()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language, suffix", [("dot", "dot"), ("mermaid", "mmd")])
def test_graph(name, language, suffix, golden):
    golden(f"graph_{name}.{suffix}", report_of(name).graph(language).rstrip("\n"))


def hostile_report(name: str) -> tg.Report:
    layer = type(name, (nn.Linear,), {})
    model = nn.Sequential()
    key = name.replace(".", "·")
    model.add_module(key, nn.Sequential(layer(4, 4), nn.ReLU()))
    return tg.analyze(type(name, (nn.Sequential,), {})(model), (4,))


# ---------------------------------------------------------------------------- mermaid

_TEXT = r'"(?P<text>[^"\n`<>\\]*(?:<br>[^"\n`<>\\]*)?)"'
_LINES = {
    "comment": re.compile(r"%% [\w ;.]+"),
    "head": re.compile(r"flowchart TB"),
    "node": re.compile(rf"(?P<id>n\d+)(?:\[{_TEXT}\]|)"),
    "work": re.compile(rf"(?P<id>n\d+)\(\[{_TEXT}\]\)"),
    "value": re.compile(rf"(?P<id>n\d+)\[/{_TEXT}/\]"),
    "cluster": re.compile(rf"subgraph (?P<id>c\d+)\[{_TEXT}\]"),
    "end": re.compile(r"end"),
    "edge": re.compile(rf"(?P<source>n\d+) (?:-->|-\.->)(?:\|{_TEXT}\|)? (?P<target>n\d+)"),
    "style": re.compile(r"classDef \w+ [\w:#,-]+"),
    "class": re.compile(r"class (?P<ids>[nc]\d+(?:,[nc]\d+)*) \w+"),
}


def parsed(text: str) -> list[tuple[str, dict[str, str]]]:
    """Return the lines of a flowchart by kind; a line of no kind is no Mermaid."""
    found = []
    for line in text.splitlines():
        matches = {kind: pattern.fullmatch(line.strip()) for kind, pattern in _LINES.items()}
        kinds = [kind for kind, match in matches.items() if match]
        assert kinds, f"not Mermaid: {line}"
        found.append((kinds[0], matches[kinds[0]].groupdict()))
    return found


def check_flowchart(text: str) -> None:
    lines = parsed(text)
    assert [kind for kind, _ in lines[:2]] == ["comment", "head"]
    depth = 0
    ids = set()
    for kind, groups in lines:
        depth += {"cluster": 1, "end": -1}.get(kind, 0)
        assert depth >= 0
        if kind in ("node", "work", "value", "cluster"):
            assert groups["id"] not in ids
            ids.add(groups["id"])
    assert depth == 0
    for kind, groups in lines:
        if kind == "edge":
            assert {groups["source"], groups["target"]} <= ids
        if kind == "class":
            assert set(groups["ids"].split(",")) <= ids


@pytest.mark.parametrize("name", NAMES)
def test_mermaid_is_a_flowchart(name):
    check_flowchart(report_of(name).graph("mermaid"))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_in_mermaid(name):
    text = hostile_report(name).graph("mermaid")
    check_flowchart(text)
    assert "<script" not in text
    assert "\u202e" not in text


def test_the_parser_refuses_what_is_no_flowchart():
    for text in ('n1["a"b"]', "n1 --> ", 'subgraph c1["<b>"]', "n1[a]"):
        with pytest.raises(AssertionError):
            check_flowchart(f"%% x\nflowchart TB\n{text}\n")


# ---------------------------------------------------------------------------- graphviz


def drawn_by_graphviz(text: str) -> str:
    program = shutil.which("dot")
    if program is None:
        pytest.skip("Graphviz is not installed")
    done = subprocess.run(
        [program, "-Tsvg"], input=text, capture_output=True, text=True, encoding="utf-8", timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_graphviz_draws_every_node_and_edge(name):
    report = report_of(name)
    graph = graph_of(report, step_of(report.trace))
    picture = drawn_by_graphviz(report.graph("dot"))
    assert picture.count('class="node"') == sum(1 for _ in graph.root.nodes())
    assert picture.count('class="edge"') == len(graph.edges)
    clusters = sum(1 for _ in graph.root.clusters()) - 1  # the root is the picture
    assert picture.count('class="cluster"') == clusters


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_in_graphviz(name):
    picture = drawn_by_graphviz(hostile_report(name).graph("dot"))
    assert "<script" not in picture
    assert picture.count('class="node"') == 4  # input, layer, activation, output


def test_graphviz_shows_a_name_as_it_is():
    picture = drawn_by_graphviz(hostile_report('a & b &lt; "c" \\n').graph("dot"))
    assert "a &amp; b &amp;lt; &quot;c&quot; \\n" in picture.replace("&#45;", "-")


# ---------------------------------------------------------------------------- structure


def names(graph):
    return [(node.name, node.kind, node.count) for node in graph.root.nodes()]


def test_equal_blocks_are_one_cluster_that_says_how_many():
    graph = graph_of(trained(), step_of(trained().trace))
    clusters = [(cluster.name, cluster.count) for cluster in graph.root.clusters()]
    assert clusters == [("Network", 1), ("blocks", 1), ("0–2", 3)]
    inner = [name for name, _, _ in names(graph)]
    assert inner.count("first") == 1
    assert inner.count("act") == 1
    assert inner.count("act (call 2)") == 1


def test_what_goes_past_the_block_is_an_edge():
    graph = graph_of(trained(), step_of(trained().trace))
    by_name = {node.name: node.index for node in graph.root.nodes()}
    edges = {(edge.source, edge.target): edge.shape for edge in graph.edges}
    assert edges[by_name["stem"], by_name["add"]] == "[4, 8, 16, 16] float32"
    assert edges[by_name["stem"], by_name["first"]] == "[4, 8, 16, 16] float32"
    assert (by_name["act (call 2)"], by_name["first"]) not in edges  # to the next of the equal ones


def test_depth_closes_what_lies_deeper():
    graph = graph_of(trained(), step_of(trained().trace), depth=1)
    assert names(graph) == [
        ("x", "input", 1), ("stem", "module", 1), ("blocks", "module", 1), ("mean", "operators", 1),
        ("head", "module", 1), ("output", "output", 1),
    ]  # fmt: skip
    assert len(graph.edges) == 5
    assert "modules down to depth 1 of 3" in trained().graph("mermaid", depth=1)


def test_too_many_nodes_make_it_shallower():
    step = step_of(trained().trace)
    assert graph_of(trained(), step, most_nodes=12).depth == 3
    assert graph_of(trained(), step, most_nodes=7).depth == 2
    assert graph_of(trained(), step, most_nodes=1).depth == 1


def test_the_layer_that_failed_is_marked_and_has_what_it_got():
    graph = graph_of(failed(), step_of(failed().trace))
    (node,) = [node for node in graph.root.nodes() if node.failed]
    assert node.path == "head"
    (edge,) = [edge for edge in graph.edges if edge.target == node.index]
    assert (edge.shape, edge.is_known) == ("[4, 8] float32", False)
    assert "failed" in failed().graph("mermaid")


def test_a_module_that_is_one_layer_is_one_node():
    report = tg.analyze(nn.Linear(4, 2), (4,))
    assert names(graph_of(report, step_of(report.trace))) == [
        ("input", "input", 1), ("Linear", "module", 1), ("output", "output", 1),
    ]  # fmt: skip


def test_a_shared_module_is_shown_at_each_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

        def forward(self, a, b):
            return self.encoder(a) * self.encoder(b)

    report = tg.analyze(Twice(), [(4,), (4,)])
    graph = graph_of(report, step_of(report.trace))
    clusters = [cluster.name for cluster in graph.root.clusters()]
    assert clusters == ["Twice", "encoder", "encoder (call 2)"]


def test_siblings_that_take_turns_make_a_loop():
    class Turns(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
            self.norms = nn.ModuleList(nn.LayerNorm(4) for _ in range(4))

        def forward(self, x):
            for conv, norm in zip(self.convs, self.norms, strict=True):
                x = norm(conv(x))
            return x

    report = tg.analyze(Turns(), (4,))
    graph = graph_of(report, step_of(report.trace))
    by_name = {node.name: node.index for node in graph.root.nodes()}
    ends = {(edge.source, edge.target) for edge in graph.edges}
    there = by_name["convs.0–3"], by_name["norms.0–3"]
    assert there in ends and there[::-1] in ends
    report.plot.graph()  # and it can be drawn


def test_errors():
    with pytest.raises(UsageError, match="no graph in 'svg'"):
        trained().graph("svg")
    for depth in (0, -1, True, 1.5):
        with pytest.raises(UsageError, match="the depth of a graph cannot be"):
            trained().graph("dot", depth=depth)
    structure = tg.analyze(Network())
    with pytest.raises(UsageError, match="the graph needs a step, and the model was not run"):
        structure.graph()
