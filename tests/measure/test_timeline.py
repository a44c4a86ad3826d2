"""A step as a trace file: phases and modules by name, nested as they ran, with memory."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.errors import UsageError

TRAINING = tg.Scenario(mode="training", optimizer="adamw")
ONCE = {"min_repetitions": 1, "max_seconds": 0.0}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.conv(x))


def network() -> nn.Module:
    return nn.Sequential(Block(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("timeline") / "step.json"
    tg.measure(network(), (2, 3, 16, 16), scenario=TRAINING, timeline=path, **ONCE)
    return json.loads(path.read_text())


def slices(document: dict) -> dict[str, dict]:
    return {e["name"]: e for e in document["traceEvents"] if e["ph"] == "X"}


def inside(inner: dict, outer: dict) -> bool:
    return (
        inner["tid"] == outer["tid"]
        and inner["ts"] >= outer["ts"]
        and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"] + 1e-3
    )


def test_modules_are_slices_nested_as_they_were_called(document):
    found = slices(document)
    assert inside(found["0.conv (Conv2d)"], found["0 (Block)"])
    assert inside(found["0 (Block)"], found["Sequential"])
    assert inside(found["Sequential"], found["forward"])
    assert found["0 (Block)"]["cat"] == "user_annotation"
    assert found["aten::conv2d"]["cat"] == "cpu_op"
    assert inside(found["aten::conv2d"], found["0.conv (Conv2d)"])


def test_phases_follow_each_other_and_fill_the_step(document):
    found = slices(document)
    phases = [found[name] for name in ("forward", "loss", "backward", "optimizer")]
    for before, after in pairwise(phases):
        assert before["ts"] + before["dur"] <= after["ts"] + 1e-3
    step = found["ProfilerStep#0"]
    assert all(inside(phase, step) for phase in phases)


def test_the_backward_says_whose_it_is(document):
    nodes = {
        e["name"].rpartition(": ")[2]: e["args"].get("module")
        for e in document["traceEvents"]
        if e["name"].startswith("autograd::engine")
    }
    assert nodes["ConvolutionBackward0"] == "0.conv"
    assert nodes["ReluBackward0"] == "0.act"
    assert nodes["AddmmBackward0"] == "2"


def test_memory_is_a_track_that_rises_and_falls(document):
    points = [e for e in document["traceEvents"] if e["ph"] == "C"]
    values = [e["args"]["bytes"] for e in points]
    assert max(values) >= 2 * 8 * 14 * 14 * 4  # the convolution's output
    assert values[-1] < max(values)
    assert [e["ts"] for e in points] == sorted(e["ts"] for e in points)


def test_no_mark_and_no_path_of_this_machine_is_left(document):
    text = json.dumps(document)
    assert "torchgauge:" not in text
    assert "trace.json" not in text
    assert document["otherData"] == {"tool": "torchgauge", "source": "measured",
                                     "device": document["otherData"]["device"]}  # fmt: skip
    assert document["distributedInfo"] == {"rank": 0}


def test_a_file_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write (.|\n)*choose another file"):
        tg.measure(nn.Linear(2, 2), (1, 2), timeline=tmp_path / "none" / "x.json", **ONCE)


def test_the_command_line_writes_it(tmp_path: Path, capsys):
    model = tmp_path / "m.py"
    model.write_text("from torch import nn\nmake = lambda: nn.Linear(4, 4)\n")
    target = tmp_path / "step.json"
    arguments = ["measure", f"{model}:make", "--input-size", "2,4", "--max-seconds", "0",
                 "--timeline", str(target), "--quiet"]  # fmt: skip
    assert main(arguments) == 0
    assert "aten::addmm" in target.read_text()
