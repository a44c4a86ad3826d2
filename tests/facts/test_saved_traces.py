"""A trace is saved, loaded and estimated where there is no torch; the figures stay the same."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.torch_version import TorchVersion

import cpu_calibration
import report_builder as build
import torchgauge as tg
from torchgauge.devices import all_devices
from torchgauge.devices.family import kernel_family
from torchgauge.errors import ReportFormatError, ScenarioError
from torchgauge.facts.trace import TRACE_HEADER, OpRecord, Phase, Trace
from torchgauge.trace.kernels.cuda import virtual_device
from torchgauge.trace.kernels.cuda_attention import AttentionCase, choose

ESTIMATOR = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "transformers", "numpy"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocked())
import torchgauge as tg
trace = tg.load(sys.argv[1])
print(json.dumps([tg.estimate(trace, device=name).to_json() for name in sys.argv[2:]]))
assert "torch" not in sys.modules
"""


def estimated_without_torch(path: Path, devices: list[str]) -> list[str]:
    """Return what another process says, in which torch cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-c", ESTIMATOR, str(path), *devices],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    texts: list[str] = json.loads(done.stdout)
    return texts


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.recurrent = nn.LSTM(16, 8, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.head(self.recurrent(mixed)[0].mean(1))


def analyzed(device: str, **options: Any) -> tg.Report:
    given = {"mode": "training", "optimizer": "adamw", "precision": "bf16-autocast"} | options
    return tg.analyze(Block(), (2, 3, 16, 16), device=device, name_batch=True, **given)


@pytest.mark.parametrize(
    "devices", [["RTX 3090", "A10", "A40"], ["A100-PCIe-40GB", "A100-SXM-80GB", "A30"]]
)
def test_a_saved_trace_is_estimated_without_torch_as_a_fresh_run_is(
    devices: list[str], tmp_path: Path
) -> None:
    first = analyzed(devices[0])
    assert first.trace is not None
    first.trace.save(tmp_path / "step.gauge")
    texts = estimated_without_torch(tmp_path / "step.gauge", devices)
    assert texts == [analyzed(device).to_json() for device in devices]
    assert len(set(texts)) == len(devices)  # each device has figures of its own
    assert all(json.loads(text)["time"]["total_ms"] > 0 for text in texts)


@pytest.mark.parametrize("case", ["allocator and release", "structure", "spec", "inference"])
def test_estimates_equal_the_analysis_in_other_scenarios(case: str, tmp_path: Path) -> None:
    options: dict[str, dict[str, Any]] = {
        "allocator and release": {
            "allocator": "expandable_segments:True",
            "torch_release": "2.6",
            "accumulation": 2,
        },
        "spec": {"model_name": "mine", "model_spec": "mine.py:Block"},
        "inference": {"mode": "inference", "optimizer": None, "precision": "fp16"},
        "structure": {},
    }
    if case == "structure":
        reports = [tg.analyze(Block(), device=name) for name in ("RTX 3090", "A10")]
    else:
        reports = [analyzed(name, **options[case]) for name in ("RTX 3090", "A10")]
    trace = reports[0].trace
    assert trace is not None
    trace.save(tmp_path / "step.gauge")
    again = tg.estimate(tg.load(tmp_path / "step.gauge"), device="A10")
    assert again == reports[1]
    assert tg.estimate(trace) == reports[0]


def test_a_step_on_a_calibrated_cpu_is_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpu.json"
    path.write_text(cpu_calibration.calibration().to_json())
    monkeypatch.setenv("TORCHGAUGE_CPU", str(path))
    report = tg.analyze(Block(), (2, 3, 16, 16), mode="training")
    assert report.time is not None
    assert report.trace is not None
    report.trace.save(tmp_path / "step.gauge")
    assert estimated_without_torch(tmp_path / "step.gauge", ["cpu"]) == [report.to_json()]


def test_a_device_with_other_kernels_is_refused() -> None:
    trace = tg.analyze(nn.Linear(4, 4), (2, 4), device="RTX 3090").trace
    with pytest.raises(ScenarioError) as caught:
        tg.estimate(trace, device="H100-SXM")
    assert caught.value.message == (
        "the trace holds the kernels of GPUs of compute capability 8.6 up to 8.9; "
        "H100-SXM runs other kernels"
    )
    assert caught.value.hint == "trace the model again: analyze(…, device='H100-SXM')"
    on_cpu = tg.analyze(nn.Linear(4, 4), (2, 4)).trace
    with pytest.raises(ScenarioError, match="the trace holds the kernels of the CPU; A10 runs"):
        tg.estimate(on_cpu, device="A10")


CASES = [
    AttentionCase(
        query=torch.empty((2, 8, length, size), dtype=dtype, device="meta"),
        key=torch.empty((2, 8, 32, size), dtype=dtype, device="meta"),
        value=torch.empty((2, 8, 32, size), dtype=dtype, device="meta"),
        mask=None,
        dropout=dropout,
        is_causal=False,
        grouped=False,
    )
    for dtype in (torch.float32, torch.float16, torch.bfloat16)
    for size in (4, 6, 64, 72, 128, 192, 256, 264, 512)
    for length in (1, 32)
    for dropout in (0.0, 0.1)
]


@pytest.mark.parametrize("release", ["2.6", "2.9", "2.13"])
def test_devices_of_a_family_run_the_same_kernels(release: str) -> None:
    capabilities = {device.compute_capability for device in all_devices()} - {None}
    kernels = {}
    for capability in capabilities:
        assert capability is not None
        chosen = tuple(choose(case, capability, TorchVersion(release)) for case in CASES)
        rules = virtual_device(capability, release).shape_rules
        kernels[capability] = chosen, {name: id(rule) for name, rule in rules.items()}
    for one, other in itertools.combinations(kernels, 2):
        if kernel_family(one) == kernel_family(other):
            assert kernels[one] == kernels[other], (one, other)


def test_every_kind_of_value_comes_back(tmp_path: Path) -> None:
    report = tg.analyze(nn.Linear(4, 4), (2, 4))
    assert report.trace is not None
    spec = report.trace.ops[0].outputs[0]
    values = (None, True, 2**62, -1.5, 2 - 3j, "float32", (1, (spec, None), ()), spec)
    op = OpRecord(
        index=0, name="aten.any", args=values, kwargs=(("alpha", 1j), ("sizes", (1, 2))),
        outputs=(replace(spec, stored=3),), call=-1, phase=Phase.FORWARD,
    )  # fmt: skip
    trace = replace(report.trace, ops=(op,))
    trace.save(tmp_path / "step.gauge")
    again = tg.load(tmp_path / "step.gauge")
    assert again == trace
    assert again.ops[0].outputs[0].stored == 3
    assert type(again.ops[0].args[6]) is tuple


def test_the_trace_is_no_part_of_a_report() -> None:
    report = tg.analyze(nn.Linear(4, 4), (2, 4))
    assert replace(report, trace=None) == report
    assert "trace" not in report.to_dict()
    assert build.simple_cnn().trace is None


def damaged(content: bytes, path: Path) -> str:
    path.write_bytes(content)
    with pytest.raises(ReportFormatError) as caught:
        tg.load(path)
    assert caught.value.hint
    assert caught.value.message.startswith(f"{path}: ")
    return caught.value.message.removeprefix(f"{path}: ")


def test_a_damaged_trace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step.gauge"
    trace = tg.analyze(nn.Linear(4, 4), (2, 4)).trace
    assert trace is not None
    trace.save(path)
    whole = path.read_bytes()
    assert whole.startswith(TRACE_HEADER)
    assert tg.load(path) == trace
    assert damaged(whole[:-9], path).startswith("the trace is damaged: ")
    assert damaged(TRACE_HEADER + b"junk", path).startswith("the trace is damaged: ")
    assert damaged(whole.replace(b"trace 1", b"trace 2", 1), path) == (
        "the file is a 'torchgauge trace 2'; this torchgauge reads 'torchgauge trace 1'"
    )
    assert Trace.unpacked(whole) == trace
