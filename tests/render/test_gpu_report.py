"""What a report says of a GPU's memory: answers, columns, what is alive at the peak, and where."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import report_builder as build
import torchgauge as tg
from torchgauge.facts.codec.wire import to_json
from torchgauge.facts.fit import Verdict
from torchgauge.facts.memory import AliveTensor
from torchgauge.facts.query import own_costs
from torchgauge.facts.report import report_from_json
from torchgauge.facts.trace import Role
from torchgauge.render import get_format
from torchgauge.render.pages.report import report_page

TRAINING = tg.Scenario(mode="training", optimizer="adam", device="RTX 3060 12GB")
MIB = 2**20


def shown(report, name, **options):
    return get_format(name, **options).render(report_page(report))


def on_a_gpu(report, **changes):
    """A built report, as if its step ran on a GPU."""
    memory = replace(
        report.memory,
        peak_reserved_bytes=6 * 2**30,
        context_bytes=200 * MIB,
        device_bytes=6 * 2**30 + 200 * MIB,
        minimum_bytes=5 * 2**30,
        capacity_bytes=12 * 2**30,
        fits=True,
        intervals={"device_bytes": (6 * 2**30, 7 * 2**30)},
        alive_at_peak=(
            AliveTensor(
                nbytes=96 * MIB, role=Role.SAVED_ACTIVATION, label="aten.relu.default",
                module="features.1", shape=(8, 64, 224, 224), dtype="float32", code="net.py:12",
            ),
            AliveTensor(
                nbytes=2 * MIB, role=Role.PARAMETER, label="classifier.weight",
                module="classifier", shape=None, dtype="", code="",
            ),
        ),
    )  # fmt: skip
    scenario = replace(report.scenario, device="RTX 3060 12GB", channels_last=True)
    return replace(report, scenario=scenario, memory=replace(memory, **changes))


@pytest.mark.parametrize("width", [80, 160])
def test_the_memory_of_a_gpu_is_shown(golden, width):
    report = on_a_gpu(build.transformer(training=True))
    golden(f"gpu_{width}.txt", shown(report, "text", width=width))


def test_the_memory_of_a_gpu_is_shown_in_ascii(golden):
    text = shown(on_a_gpu(build.transformer(training=True)), "text", width=80, ascii=True)
    assert text.isascii()
    golden("gpu_ascii.txt", text)


@pytest.mark.parametrize("extension", ["markdown", "latex", "csv", "html"])
def test_every_format_has_the_memory_of_a_gpu(extension):
    text = shown(on_a_gpu(build.transformer(training=True)), extension)
    for part in (
        "RTX 3060 12GB",
        "channels last",
        "yes: 6.20 GiB needed (6.00–7.00 GiB); RTX 3060 12GB has 12.00 GiB",
        "6.00 GiB reserved",
        "6.20 GiB with the CUDA context, 6.00–7.00 GiB in four of five cases",
        "5.20 GiB with the CUDA context, where cached memory is given back",
        "at net.py:12",
    ):
        assert part in text.replace("--", "–")


def test_the_first_step_and_offloading_are_said():
    report = on_a_gpu(build.transformer(training=True))
    scenario = replace(report.scenario, first_step=True, offload_activations=True)
    text = shown(replace(report, scenario=scenario), "text", width=200)
    assert "activations in host memory · channels last · first step" in text
    assert "Valid for          the first step" in text


def test_what_does_not_fit_is_said():
    report = on_a_gpu(build.transformer(training=True), fits=False)
    said = "6.20 GiB needed (6.00–7.00 GiB); RTX 3060 12GB has 12.00 GiB"
    assert f"no: {said}" in shown(report, "text", width=200)
    close = replace(report, memory=replace(report.memory, verdict=Verdict.TOO_CLOSE))
    assert f"too close to call: {said}" in shown(close, "text", width=200)


def test_what_is_alive_at_the_peak_comes_back_from_json():
    report = on_a_gpu(build.transformer(training=True))
    assert report_from_json(to_json(report)) == report


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(256, 256), nn.Linear(256, 256, bias=False)
        self.second.requires_grad_(False)

    def forward(self, x):
        hidden = self.first(x)
        wide = torch.cat([hidden, hidden, hidden])  # the largest: this line is looked for
        return self.second(wide.relu())


def test_the_line_of_the_models_code_is_named():
    report = tg.analyze(Net(), (512, 256), scenario=tg.Scenario(mode="training"))
    lines = {tensor.label: tensor.code for tensor in report.memory.alive_at_peak}
    first = Net.forward.__code__.co_firstlineno
    assert lines["aten.relu.default"].endswith(f"test_gpu_report.py:{first + 3}")
    assert all(not tensor.code.startswith("/") for tensor in report.memory.alive_at_peak)


def test_a_model_of_torchs_own_layers_has_no_line_of_its_own():
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU())
    report = tg.analyze(model, (512, 256), scenario=tg.Scenario(mode="training"))
    assert {tensor.code for tensor in report.memory.alive_at_peak} == {""}


@pytest.mark.parametrize("device", ["cpu", "RTX 3060 12GB"])
def test_what_is_alive_is_part_of_the_peak(device):
    scenario = tg.Scenario(mode="training", optimizer="adam", device=device)
    memory = tg.analyze(Net(), (512, 256), scenario=scenario).memory
    sizes = [tensor.nbytes for tensor in memory.alive_at_peak]
    assert sizes == sorted(sizes, reverse=True)
    by_role = {}
    for tensor in memory.alive_at_peak:
        by_role[tensor.role] = by_role.get(tensor.role, 0) + tensor.nbytes
    assert all(nbytes <= memory.at_peak[role] for role, nbytes in by_role.items())


@pytest.mark.parametrize("device", ["cpu", "RTX 3060 12GB"])
def test_gradients_and_saved_activations_of_the_parts_sum_to_the_totals(device):
    scenario = tg.Scenario(mode="training", device=device)
    model = nn.Sequential(Net(), nn.ReLU(), nn.Linear(256, 4))
    report = tg.analyze(model, (64, 256), scenario=scenario)
    costs = own_costs(report)
    assert sum(cost.gradient_bytes for cost in costs.values()) == report.memory.gradient_bytes
    assert costs["0.second"].gradient_bytes == 0  # frozen
    saved = sum(cost.saved_activation_bytes for cost in costs.values())
    outside = report.memory.saved_activation_bytes - saved
    assert 0 <= outside < 1024  # the loss


def test_roles_at_the_peak_sum_to_what_is_allocated():
    memory = tg.analyze(Net(), (512, 256), scenario=TRAINING).memory
    assert sum(memory.at_peak.values()) == memory.peak_allocated_bytes
    assert memory.peak_allocated_bytes <= memory.minimum_bytes <= memory.peak_reserved_bytes
    assert memory.device_bytes == memory.peak_reserved_bytes + memory.context_bytes
    assert memory.device_bytes < memory.capacity_bytes and memory.fits


def test_intervals_hold_the_figures():
    def report(model, size):
        return tg.analyze(model, size, scenario=TRAINING).memory

    convolutions = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.Flatten())
    memory = report(convolutions, (32, 3, 64, 64))
    for name, (low, high) in memory.intervals.items():
        assert low <= getattr(memory, name) <= high
    low, high = memory.intervals["peak_allocated_bytes"]
    assert low < memory.peak_allocated_bytes < high
    plain = report(nn.Linear(64, 64), (32, 64))
    assert plain.intervals["device_bytes"][0] < plain.device_bytes
    low, high = plain.intervals["peak_reserved_bytes"]
    assert low <= plain.peak_reserved_bytes <= high
