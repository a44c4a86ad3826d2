"""A predicted step as a trace file: kernels tied to their launches, modules, and the memory."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.errors import ScenarioError

GPU = tg.Scenario(mode="training", optimizer="adamw", device="RTX 3090")


def network() -> nn.Module:
    block = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    return nn.Sequential(block, nn.Flatten(), nn.Linear(8 * 14 * 14, 10))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, tg.Report]:
    path = tmp_path_factory.mktemp("timeline") / "step.json"
    report = tg.analyze(network(), (64, 3, 16, 16), scenario=GPU, timeline=path)
    return json.loads(path.read_text()), report


def of(document: dict, category: str) -> list[dict]:
    return [e for e in document["traceEvents"] if e.get("cat") == category and e["ph"] == "X"]


def test_every_kernel_follows_its_launch_on_one_stream(written):
    document, _ = written
    launches = {e["args"]["correlation"]: e for e in of(document, "cuda_runtime")}
    kernels = of(document, "kernel")
    assert kernels and len(launches) == len(kernels)
    for kernel in kernels:
        launch = launches[kernel["args"]["correlation"]]
        assert kernel["ts"] >= launch["ts"] + launch["dur"]
        assert launch["args"]["External id"] == kernel["args"]["External id"]
    for before, after in pairwise(kernels):
        assert before["ts"] + before["dur"] <= after["ts"] + 1e-6


def test_the_step_ends_when_the_report_says(written):
    document, report = written
    (step,) = [e for e in of(document, "user_annotation") if e["name"] == "ProfilerStep#0"]
    assert step["dur"] == pytest.approx(report.time.total_ms * 1e3)
    last = of(document, "kernel")[-1]
    assert last["ts"] + last["dur"] <= step["dur"] + 1e-6


def test_modules_hold_their_operators(written):
    document, _ = written
    modules = {e["name"]: e for e in of(document, "user_annotation")}
    outer, inner = modules["0 (Sequential)"], modules["0.0 (Conv2d)"]
    assert outer["ts"] <= inner["ts"]
    assert inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]
    convolution = next(e for e in of(document, "cpu_op") if e["name"] == "aten::convolution")
    assert inner["ts"] <= convolution["ts"] + convolution["dur"] <= inner["ts"] + inner["dur"]
    backward = {
        e["args"]["module"]
        for e in of(document, "gpu_user_annotation")
        if e["args"]["phase"] == "backward"
    }
    assert {"0.0", "0.1", "2"} <= backward


def test_phases_follow_each_other(written):
    document, _ = written
    names = ("forward", "loss", "backward", "optimizer")
    phases = [e for e in of(document, "user_annotation") if e["name"] in names]
    assert [e["name"] for e in phases] == list(names)
    for before, after in pairwise(phases):
        assert before["ts"] + before["dur"] == pytest.approx(after["ts"])


def test_the_memory_track_reaches_the_peak_of_tensors(written):
    document, report = written
    points = [e for e in document["traceEvents"] if e["ph"] == "C"]
    values = [e["args"]["bytes"] for e in points]
    assert [e["ts"] for e in points] == sorted(e["ts"] for e in points)
    peak = max(point.live_bytes for point in report.memory.timeline)
    assert max(values) == peak


def test_bytes_and_arithmetic_are_said_of_every_kernel(written):
    document, report = written
    kernels = of(document, "kernel")
    flops = sum(e["args"]["flops"] for e in kernels)
    assert flops == report.totals.total_flops
    assert {e["args"]["bound_by"] for e in kernels} <= {"compute", "memory"}
    assert document["deviceProperties"][0]["numSms"] == 82


def test_without_a_gpu_there_is_none_to_predict(tmp_path: Path):
    with pytest.raises(ScenarioError, match="no timeline to predict for cpu"):
        tg.analyze(nn.Linear(2, 2), (1, 2), timeline=tmp_path / "x.json")


def test_the_command_line_writes_it(tmp_path: Path, capsys):
    model = tmp_path / "m.py"
    model.write_text("from torch import nn\nmake = lambda: nn.Linear(4, 4)\n")
    target = tmp_path / "step.json"
    arguments = ["summary", f"{model}:make", "--input-size", "2,4", "--device", "RTX 3090",
                 "--timeline", str(target), "--quiet"]  # fmt: skip
    assert main(arguments) == 0
    assert '"source":"predicted"' in target.read_text()
