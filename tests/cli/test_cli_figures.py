"""``--output memory.svg``: the file's name says the figure, and what is wrong is said first."""

from __future__ import annotations

import sys

import pytest

from torchgauge.cli.main import main

MODEL = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, wide=4):
        super().__init__(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

class Broken(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.ReLU(), nn.Linear(7, 2))
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(MODEL)
    return f"{tmp_path / 'net.py'}:Net"


def summary(net, *options):
    return main(["summary", net, "--input-size", "4", "--quiet", *map(str, options)])


HEADS = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF", ".dot": b"//", ".mmd": b"%%"}


@pytest.mark.parametrize(
    "name, options",
    [
        ("memory.svg", ()), ("Parameters.PNG", ()), ("graph.pdf", ("--depth", 1)),
        ("roofline.svg", ("--device", "T4")), ("time.svg", ("--device", "T4")), ("net.dot", ()),
        ("net.mmd", ("--figure", "graph", "--depth", 1)), ("net.svg", ("--figure", "memory")),
    ],
)  # fmt: skip
def test_the_file_is_the_figure(net, tmp_path, capsys, name, options):
    path = tmp_path / name
    assert summary(net, "--output", path, *options) == 0
    assert path.read_bytes().startswith(HEADS[path.suffix.lower()])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "options, message",
    [
        (("--output", "net.svg"), "the name net.svg does not say which figure it wants"),
        (("--figure", "memory"), "--figure needs a file"),
        (("--figure", "memory", "--output", "net.txt"), "net.txt is not the name of a figure"),
        (("--figure", "memory", "--output", "net.dot"), ".dot holds a graph, not memory"),
        (
            ("--figure", "memory", "--format", "json", "--output", "net.svg"),
            "--figure and --format ask for different files",
        ),
        (
            ("--output", "memory.svg", "--depth", "2"),
            "--depth has no meaning in a figure of memory",
        ),
        (("--output", "graph.svg", "--width", "90"), "--width has no meaning in a figure of graph"),
        (("--output", "time.svg", "--details"), "--details has no meaning in a figure of time"),
        (("--figure", "flow", "--output", "a.svg"), "argument --figure: unknown name 'flow'"),
        (("--output", "no/such/memory.svg"), "there is no folder no/such"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_is_built(
    net, monkeypatch, tmp_path, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("raise SystemExit('built')")
    assert summary(net, *options) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name != "net.py"] == []


def test_without_matplotlib_nothing_is_built(net, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "net.py").write_text("raise SystemExit('built')")
    assert summary(net, "--output", tmp_path / "memory.svg") == 2
    assert 'pip install "torchgauge[plot]"' in capsys.readouterr().err


def test_a_figure_that_cannot_be_drawn_leaves_no_file(net, tmp_path, capsys):
    assert summary(net, "--output", tmp_path / "time.svg") == 2
    assert "the report has no time to draw" in capsys.readouterr().err
    assert not (tmp_path / "time.svg").exists()


def test_a_failed_model_is_drawn_and_the_failure_told(net, tmp_path, capsys):
    broken = net.replace("Net", "Broken")
    assert summary(broken, "--output", tmp_path / "graph.svg") == 3
    assert summary(broken, "--output", tmp_path / "time.svg", "--device", "T4") == 3
    assert capsys.readouterr().err.count("2 (Linear) failed in forward") == 2
    assert (tmp_path / "graph.svg").exists()
    assert not (tmp_path / "time.svg").exists()


def test_commands_without_figures_say_which_files_they_write(net, tmp_path, capsys):
    assert main(["devices", "--output", str(tmp_path / "memory.svg")]) == 2
    assert "does not say which format it wants" in capsys.readouterr().err
