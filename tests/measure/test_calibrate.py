"""Calibrating: what is timed and how, the samples, the command."""

from __future__ import annotations

import json
import mmap
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.devices.cpu_file import VARIABLE
from torchgauge.errors import UsageError
from torchgauge.measure.calibration import distances
from torchgauge.measure.calibration import run as calibration_run
from torchgauge.measure.calibration.case import Case, Cold, Fresh, Memory
from torchgauge.measure.calibration.convolutions import convolutions
from torchgauge.measure.calibration.networks import NETWORKS
from torchgauge.measure.calibration.timing import runs, timed
from torchgauge.measure.settled import settle_allocator

pytestmark = pytest.mark.timed


def few_cases() -> list[Case]:
    aten = torch.ops.aten
    return [
        *(
            Case(op=aten.addmm.default,
                 given=(Cold((n,)), Fresh((m, k)), Cold((n, k), order=(1, 0))))
            for m in (1, 64) for n in (16, 256) for k in (16, 256)
        ),
        *(Case(op=aten.relu.default, given=(Fresh((size,)),)) for size in (16, 100_000)),
        Case(op=aten.copy_.default, given=(Fresh((10_000_000,)), Fresh((10_000_000,)))),
    ]  # fmt: skip


def test_what_is_timed_is_timed_with_new_tensors() -> None:
    memory = Memory()
    case = Case(op=torch.ops.aten.relu.default, given=(Fresh((8,)), [Cold((4, 2), (1, 0))], 3))
    first, second = memory.arguments(case), memory.arguments(case)
    assert first[0].shape == (8,) and first[1][0].shape == (2, 4) and first[2] == 3
    assert first[0].data_ptr() != second[0].data_ptr()
    assert first[1][0].data_ptr() != second[1][0].data_ptr()


@pytest.mark.skipif(sys.platform == "win32", reason="nobody counts page faults there")
def test_a_run_that_faults_pages_in_is_no_sample() -> None:
    calls, blocks = [], []

    def op(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) <= 7:  # the first few are aside in any case
            blocks.append(mmap.mmap(-1, 2**20))
            blocks[-1].write(bytes(2**20))
            time.sleep(0.02)
        return x

    seconds = runs(Case(op=op, given=(Fresh((8,)),)), Memory())
    assert seconds and max(seconds) < 0.02


def test_what_a_run_made_is_gone_before_the_next_gets_its_tensors() -> None:
    """So that the allocator can give the same memory out again, as in inference."""
    alive: list[weakref.ref[torch.Tensor]] = []

    def op(x: torch.Tensor) -> torch.Tensor:
        assert not any(tensor() is not None for tensor in alive[2:])  # the first run is aside
        result = x + 1
        alive.extend((weakref.ref(x), weakref.ref(result)))
        return result

    assert runs(Case(op=op, given=(Fresh((8,)),)), Memory())
    assert len(alive) > 10


@pytest.mark.skipif(sys.platform == "win32", reason="nobody counts page faults there")
def test_what_always_faults_pages_in_has_no_sample() -> None:
    def op(x: torch.Tensor) -> torch.Tensor:
        with mmap.mmap(-1, 2**20) as block:
            block.write(bytes(2**20))
        return x

    assert runs(Case(op=op, given=(Fresh((8,)),)), Memory()) == []


def test_the_layers_that_images_go_to_are_timed_with_cold_caches() -> None:
    found = [c for c in convolutions() if c.op is torch.ops.aten.convolution.default]
    first = [case for case in found if case.begins_step]
    assert first and len(first) < len(found) / 2
    for case in first:
        assert case.given[0].shape[1] <= 4
    for case in found:
        assert case.begins_step or case.given[0].shape[1] > 4


def test_a_sample_is_a_time_that_the_operator_really_takes() -> None:
    settle_allocator()  # or each run of the large one may fault its memory in, and be no sample
    sizes = (1_000, 4_000_000)
    cases = [Case(op=torch.ops.aten.exp.default, given=(Fresh((size,)),)) for size in sizes]
    small, large = timed(cases, lambda text: None)
    assert (small.work.surface, small.work.sizes) == ("exp", (1_000,))
    assert 0 < 20 * small.seconds < large.seconds < 1.0


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_run, "cases", few_cases)
    monkeypatch.setattr(calibration_run, "NETWORKS", NETWORKS[-1:])
    monkeypatch.setattr(distances, "DISTANCES", (2.0**18, 2.0**22, 2.0**24))
    monkeypatch.setattr(distances, "_RUNS", 4)


def test_calibrate_writes_a_file_that_predictions_use(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "cpu.json"
    told: list[str] = []
    monkeypatch.setenv(VARIABLE, str(path))  # which is not there yet
    done = tg.calibrate(path, on_progress=told.append)
    assert done.path == path and path.is_file() and told
    assert {step.name for step in done.steps} == {"perceptron, inference", "perceptron, training"}
    assert done.calibration.roof.flops_per_second > 1e9
    report = tg.analyze(nn.Linear(256, 256), (64, 256))
    assert report.time is not None and 0 < report.time.total_ms < 100


def test_the_command_calibrates_and_then_lays_a_prediction_beside_the_measurement(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cpu.json"
    assert main(["measure", "--calibrate", "--output", str(path), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "perceptron, training" in shown and "GFLOP/s" in shown
    assert "".join(str(path).split()) in "".join(shown.split())  # a long one is wrapped
    monkeypatch.setenv(VARIABLE, str(path))
    command = ["measure", "torch.nn:Linear(256, 256)", "--input-size", "64,256", "--quiet"]
    command += ["--max-seconds", "0.2", "--predicted"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "Predicted" in shown and "Measured" in shown and "Ratio" in shown
    assert main([*command, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows["total"]["ratio"] == pytest.approx(
        rows["total"]["predicted_ms"] / rows["total"]["measured_ms"]
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--calibrate", "torch.nn:ReLU"], "a model has no meaning with --calibrate"),
        (["--calibrate", "--input-size", "3,4"], "--input-size has no meaning"),
        (["--calibrate", "--mode", "training"], "--mode has no meaning"),
        (["--calibrate", "--predicted"], "--predicted has no meaning"),
        (["--calibrate", "--output", "/proc/cpu.json"], "cannot write /proc/cpu.json"),
        ([], "no model was named"),
        (
            ["torch.nn:ReLU", "--input-size", "3,4", "--predicted", "--depth", "2"],
            "--depth has no meaning with --predicted",
        ),
        (
            ["torch.nn:ReLU", "--input-size", "3,4", "--predicted"],
            "there is no prediction for cpu here",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    few: None, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", *given]) == 2
    assert message in capsys.readouterr().err


def test_without_anywhere_to_keep_it_a_calibration_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(UsageError, match="no place to store"):
        tg.calibrate()
