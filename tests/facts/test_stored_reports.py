"""What is stored opens where torch and numpy cannot be imported, and in later versions."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

import fit_builder
import report_builder as build
import torchgauge as tg
from asked import asked
from torchgauge.compare.times import compare_times
from torchgauge.errors import ScenarioError
from torchgauge.facts.codec.wire import to_json
from torchgauge.facts.io import load_answer
from torchgauge.facts.report import report_from_json
from torchgauge.fit.curve import batch_curve

VERSION_1 = Path(__file__).parents[1] / "golden" / "version_1"

READER = """
import json, pickle, sys
from dataclasses import asdict

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "transformers", "numpy"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocked())
stored = pickle.load(sys.stdin.buffer)
from torchgauge.facts.codec.wire import to_json
from torchgauge.facts.report import Report
texts = {
    name: to_json(item) if isinstance(item, Report) else repr(asdict(item))
    for name, item in stored.items()
}
for item in stored.values():
    str(item)
assert "torch" not in sys.modules
print(json.dumps(texts))
"""


def read_without_torch(stored: dict[str, Any]) -> dict[str, str]:
    """Return what a process without torch finds in a pickle: reports as JSON, others as text."""
    done = subprocess.run(
        [sys.executable, "-c", READER], input=pickle.dumps(stored), capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, str] = json.loads(done.stdout)
    return found


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


class Speaking(nn.Module):
    """Returns what is no tensor: a size, a dtype, a device, numbers of numpy."""

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        number = numpy.float32(1.5)
        return {"x": x, "size": x.shape, "kind": x.dtype, "on": x.device, "number": number}


class Failing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x.new_zeros(7, 3)


def failed() -> tg.Report:
    with pytest.raises(tg.TorchGaugeError) as caught:
        tg.analyze(Failing(), input_size=(2, 3))
    report: tg.Report = caught.value.report  # type: ignore[attr-defined]
    assert report.failure is not None
    return report


def packed() -> tg.Report:
    sequences = nn.utils.rnn.pack_padded_sequence(torch.zeros(5, 2, 3), torch.tensor([5, 3]))
    return tg.analyze(nn.LSTM(3, 4), input_data=(sequences,))


def quantized() -> tg.Report:
    layer = torch.ao.nn.quantized.dynamic.Linear(8, 8)
    return tg.analyze(nn.Sequential(layer), input_data=(torch.zeros(2, 8),))


def training(device: str = "cpu", **changes: Any) -> tg.Scenario:
    return tg.Scenario(mode="training", optimizer="adamw", device=device, **changes)


analyze = partial(tg.analyze, input_size=(3, 8, 8))
OF_NUMPY = training(optimizer_options={"lr": numpy.float64(0.25)}, accumulation=numpy.int64(2))
RELEASE = tg.Scenario(device="RTX 3090", torch_release=torch.__version__)

REPORTS: dict[str, Callable[[], tg.Report]] = {
    **{f"built {name}": make for name, make in build.ALL.items()},
    "inference": lambda: analyze(network()),
    "structure": lambda: tg.analyze(network()),
    "training": lambda: analyze(network(), scenario=training()),
    "on a GPU": lambda: analyze(network(), scenario=training("RTX 3090")),
    "of a release": lambda: analyze(network(), scenario=RELEASE),
    "numpy's numbers": lambda: analyze(network(), scenario=OF_NUMPY, batch_size=numpy.int64(2)),
    "a size of torch": lambda: tg.analyze(network(), input_size=torch.Size((3, 8, 8))),
    "no tensors": lambda: tg.analyze(Speaking(), input_size=(3,)),
    "failed": failed,
    "packed": packed,
    "sparse": lambda: tg.analyze(nn.Linear(4, 4), input_data=(torch.eye(4).to_sparse(),)),
    "quantized": quantized,
    "measured": lambda: tg.measure(
        network(), input_size=(3, 8, 8), scenario=training(), min_repetitions=2, max_seconds=0.1
    ),
}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
def test_a_report_opens_without_torch():
    reports = {name: make() for name, make in REPORTS.items()}
    assert read_without_torch(reports) == {
        name: to_json(report) for name, report in reports.items()
    }
    for report in reports.values():
        assert report_from_json(to_json(report)) == report
        assert pickle.loads(pickle.dumps(report)) == report
        assert copy.deepcopy(report) == report
        assert type(report.torch_version) is str


def test_other_answers_open_without_torch():
    curve = batch_curve(asked(nn.Linear(8, 8), input_size=(8,), scenario=training("RTX 3090")))
    others = {
        "will it fit": tg.fits(network(), input_size=(3, 8, 8), scenario=training("RTX 3090")),
        "made by hand": fit_builder.report(),
        "a curve": curve,
        "a comparison": compare_times(build.predicted(), build.measured()),
        "a scenario": OF_NUMPY,
        "a device": tg.devices.find_device("RTX 3090"),
    }
    assert read_without_torch(others) == {name: repr(asdict(item)) for name, item in others.items()}


def is_within(old: Any, new: Any) -> bool:
    """Whether everything of the old file is in the new one, where fields may have been added."""
    if isinstance(old, dict):
        return all(name in new and is_within(value, new[name]) for name, value in old.items())
    if isinstance(old, list):
        return len(old) == len(new) and all(map(is_within, old, new))
    return bool(old == new)


@pytest.mark.parametrize("name", ["first", "first_failed"])
def test_the_first_files_of_version_1_are_read(name):
    """As ``report.save`` wrote them on 2026-11-24."""
    report = load_answer(VERSION_1 / f"{name}.json")
    written = json.loads((VERSION_1 / f"{name}.json").read_text())
    again = json.loads(to_json(report))
    assert written["schema_version"] == again["schema_version"] == 1
    assert is_within(written, again)


def test_a_pickle_of_version_1_is_read():
    stored = (VERSION_1 / "training.pickle").read_bytes()
    assert pickle.loads(stored) == build.ALL["training"]()


def test_a_pickle_holds_text_alone():
    """Fields that a later version adds cannot shift the others."""
    (_, (text,)) = build.simple_cnn().__reduce__()
    assert json.loads(text)["schema_version"] == 1
    stored = pickle.dumps(build.simple_cnn())
    assert stored.count(b"torchgauge") == 2 == stored.count(b"torchgauge.facts.report") + 1


def test_a_report_without_a_time_stays_without(tmp_path):
    report = replace(build.measured(), time=None)
    assert pickle.loads(pickle.dumps(report)).time is None


@pytest.mark.parametrize("accumulation", [0, -1, 2.5, None])
def test_a_number_of_micro_batches_is_a_whole_one(accumulation):
    with pytest.raises(ScenarioError, match="is not a number of micro-batches"):
        training(accumulation=accumulation)


def test_a_lazy_layer_is_not_adapted():
    report = tg.fits(network(), input_size=(3, 8, 8), scenario=training("RTX 3090"))
    (lora,) = (item for item in report.not_tried if "lora" in item.name.lower())
    assert lora.why == "a lazy linear layer has no size before the first forward"
