"""A trace is saved, loaded and estimated where there is no torch; the figures stay the same."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import zstandard
from torch import nn
from torch.torch_version import TorchVersion

import cpu_calibration
import report_builder as build
import torchgauge as tg
from torchgauge.devices import all_devices
from torchgauge.devices.family import kernel_family
from torchgauge.errors import ReportFormatError, ScenarioError
from torchgauge.facts.guess import Guess, guesses
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
    assert again.to_json() == reports[1].to_json()
    assert tg.estimate(trace).to_json() == reports[0].to_json()


class AsksForValues(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y * 2 if y.sum().item() > 0 else y


@pytest.mark.parametrize("model", [AsksForValues(4, 4), nn.Linear(4, 4), nn.Embedding(9, 4)])
@pytest.mark.parametrize("device", ["cpu", "A10"])
def test_guesses_stay_guesses(model: nn.Module, device: str, tmp_path: Path) -> None:
    report = tg.analyze(model, (4, 4), mode="training", device=device)
    assert report.trace is not None
    report.trace.save(tmp_path / "step.gauge")
    loaded = tg.load(tmp_path / "step.gauge")
    again = tg.estimate(loaded)
    assert again.to_json() == report.to_json()
    assert again.guesses == report.guesses
    assert bool(report.guesses) or not isinstance(model, AsksForValues)
    kinds = [type(text) for text in report.trace.assumptions]
    assert [type(text) for text in loaded.assumptions] == kinds


HALF = "half\ud800"


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add_module(HALF, nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {HALF: getattr(self, HALF)(x)}


def test_text_that_is_not_utf_8_comes_back(tmp_path: Path) -> None:
    report = tg.analyze(Odd(), (2, 4), mode="training", model_name=HALF, device="A10")
    assert report.trace is not None
    assumptions = (Guess(HALF), Guess("whole"), HALF, "whole")
    op = replace(report.trace.ops[0], args=(HALF, 1j, (HALF,)), kwargs=((HALF, HALF),))
    trace = replace(report.trace, assumptions=assumptions, ops=(op, *report.trace.ops[1:]))
    for saved in (report.trace, trace):
        saved.save(tmp_path / "step.gauge")
        loaded = tg.load(tmp_path / "step.gauge")
        assert loaded == saved
        assert guesses(loaded.assumptions) == guesses(saved.assumptions)


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
    trace = replace(report.trace, ops=(op, *report.trace.ops[1:]))
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
    assert damaged(whole + b"junk", path) == (
        "the trace is damaged: the file goes on for 4 bytes after its end"
    )
    assert damaged(whole + whole, path).endswith(f"{len(whole):,} bytes after its end")


def test_no_byte_of_a_foreign_file_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "step.gauge"
    for start in (b"torchgauge trace \x1b[31m\n", b"torchgauge trace 1", b"torchgauge trace \n"):
        message = damaged(start + b"\x1b]0;title\x07" * 99, path)
        assert message.startswith("the file is cut short in its first line, or damaged there; ")
        assert message.isprintable()


def repacked(data: bytes, **options: Any) -> bytes:
    return TRACE_HEADER + zstandard.ZstdCompressor(**options).compress(data)


@pytest.mark.parametrize("with_size", [True, False])
def test_a_file_that_swells_is_refused(with_size: bool, tmp_path: Path) -> None:
    bomb = repacked(bytes(1 << 28), write_content_size=with_size)
    assert len(bomb) < 1 << 15
    message = damaged(bomb, tmp_path / "step.gauge")
    says = "says that it holds" if with_size else "holds"
    assert message == f"the trace is damaged: the file {says} more than 67,108,864 bytes"


def test_a_file_may_claim_anything(tmp_path: Path) -> None:
    claim = b"\x28\xb5\x2f\xfd\xe0" + (40 << 30).to_bytes(8, "little") + b"\x01\x00\x00"
    message = damaged(TRACE_HEADER + claim, tmp_path / "step.gauge")
    assert message.startswith("the trace is damaged: the file says that it holds more than ")


def test_memory_that_runs_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise MemoryError

    trace = tg.analyze(nn.Linear(4, 4), (2, 4)).trace
    assert trace is not None
    trace.save(tmp_path / "whole.gauge")
    monkeypatch.setattr("msgspec.msgpack.decode", none_left)
    message = damaged((tmp_path / "whole.gauge").read_bytes(), tmp_path / "step.gauge")
    assert message == "the trace is damaged: it holds more than this machine's memory"


SPEC = {"shape": [1], "dtype": "float32", "device": "cpu", "nbytes": 4}
DEEP = 0
for _ in range(40):
    DEEP = [DEEP]  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("calls.0.parent", 999, "calls[0].parent is 999, which is no call before it"),
        ("calls.1.parent", 1, "calls[1].parent is 1, which is no call before it"),
        ("calls.1.path", "nope", "calls[1].path is the path of no module"),
        ("calls.1.index", 5, "calls[1].index is 5"),
        ("calls.0.first_op", -1, "calls[0].first_op is -1, and the end 3; there are 3 operators"),
        ("calls.0.end_event", 999, "calls[0].first_event is "),
        ("calls.0.output_storages", [99], "calls[0].output_storages[0] is 99; there are "),
        ("ops.0.call", 999, "ops[0].call is 999; there are 3 calls"),
        ("ops.0.call", -2, "ops[0].call is -2; there are 3 calls"),
        ("ops.0.reads", [0, 999], "ops[0].reads is 999; there are "),
        ("ops.0.writes", [-1], "ops[0].writes is -1; there are "),
        ("ops.0.outputs.0.nbytes", -4, "ops[0].outputs is -4, which is negative"),
        ("ops.0.index", 3, "ops[0].index is 3"),
        ("ops.0.args", 5, "ops[0].args is not a list"),
        ("ops.0.args", [{}], "ops[0].args[0] is not a tensor with "),
        ("ops.0.args", [[SPEC | {"shape": 1}]], "ops[0].args[0][0] is not a tensor with "),
        ("ops.0.args", [SPEC | {"shape": ["a"]}], "ops[0].args[0] is not a tensor with "),
        ("ops.0.args", [SPEC | {"nbytes": -1}], "ops[0].args[0] is not a tensor with "),
        ("ops.0.args", [SPEC | {"more": 1}], "ops[0].args[0] is not a tensor with "),
        ("ops.0.args", [b"raw"], "ops[0].args[0] is b'raw', which no operator takes"),
        ("ops.0.args", [DEEP], "ops[0].args holds more than 32 lists in one another"),
        ("ops.0.kwargs", 5, "ops[0].kwargs is not a list"),
        ("ops.0.kwargs", [5], "ops[0].kwargs[0] is not a name with its value"),
        ("ops.0.kwargs", [[5, 5]], "ops[0].kwargs[0] is not a name with its value"),
        ("storages.0.nbytes", -5, "storages[0].nbytes is -5, which is negative"),
        ("storages.0.call", 999, "storages[0].call is 999; there are 3 calls"),
        ("storages.0.op", 999, "storages[0].op is 999; there are "),
        ("events.0.storage", 999, "events[0].storage is 999; there are "),
        ("events.0.op", 999, "events[0].op is 999; there are "),
        ("phase_ends", [["forward", 10**6]], "phase_ends[0] is 1000000; there are "),
        ("modules", [], "modules do not begin with the root (path '')"),
        ("modules.1.path", "", "modules hold a path twice"),
        ("modules.1.shared_with", "nope", "modules[1].shared_with is the path of no module"),
        ("modules.1.parameters.0.numel", -1, "modules[1].parameters[0] is -1, which is negative"),
        ("assumptions", 5, "assumptions is not a list"),
        ("assumptions", [5], "assumptions[0] is not a string"),
        ("scenario.compiled", 5, "Expected `bool`, got `int`"),
    ],
)
def test_damage_inside_is_named(place: str, value: Any, message: str, tmp_path: Path) -> None:
    trace = tg.analyze(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (2, 4)).trace
    assert trace is not None
    trace.save(tmp_path / "whole.gauge")
    whole = (tmp_path / "whole.gauge").read_bytes().removeprefix(TRACE_HEADER)
    data = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(whole))
    *way, last = (int(key) if key.isdigit() else key for key in place.split("."))
    target = data
    for key in way:
        target = target[key]
    assert last in target
    target[last] = value
    content = repacked(msgspec.msgpack.encode(data))
    found = damaged(content, tmp_path / "step.gauge")
    assert found.startswith(f"the trace is damaged: {message}")


@pytest.mark.parametrize("depth", [100, 990, 100_000])
def test_values_that_lie_deep_are_refused(depth: int, tmp_path: Path) -> None:
    content = repacked(b"\x91" * depth + b"\xc0")
    assert damaged(content, tmp_path / "step.gauge").startswith("the trace is damaged: ")


def test_what_could_not_be_read_is_not_saved(tmp_path: Path) -> None:
    trace = tg.analyze(nn.Linear(4, 4), (2, 4)).trace
    assert trace is not None
    wrong = [
        replace(trace, batch_size="two"),  # type: ignore[arg-type]
        replace(trace, modules=()),
        replace(trace, ops=(replace(trace.ops[0], call=5),)),
        replace(trace, ops=(replace(trace.ops[0], args=(object(),)),)),  # type: ignore[arg-type]
        replace(trace, assumptions=(5,)),  # type: ignore[arg-type]
    ]
    for item in wrong:
        with pytest.raises(ReportFormatError, match="the trace cannot be saved: "):
            item.save(tmp_path / "step.gauge")
    assert list(tmp_path.iterdir()) == []
