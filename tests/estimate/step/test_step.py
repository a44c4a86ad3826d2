"""What a step did: roles sum to the timeline, operators to the report, edges say what flowed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchgauge as tg
from torchgauge.facts.pictures.step import Step
from torchgauge.facts.report import Report
from torchgauge.reports import step_of


class Residual(nn.Module):
    """Two convolutions and what goes around them; the second module is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.again(self.act(self.first(x)))) + x


class Flat(nn.Module):
    """Has no sub-module: its own call is all there is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight).relu_().view(-1)


class Broken(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(8, 8), nn.ReLU(), nn.Linear(9, 2))


def made(model: nn.Module, size: Any, **options: Any) -> tuple[Report, Step]:
    report = tg.analyze(model, size, **options)
    assert report.trace is not None
    return report, step_of(report.trace)


SCENARIOS: list[dict[str, Any]] = [
    {},
    {"mode": "training", "optimizer": "adamw"},
    {"mode": "training", "optimizer": "sgd", "accumulation": 2},
    {"mode": "training", "optimizer": "adamw", "zero_grad": "before-backward"},
    {"mode": "training", "checkpointing": True},
    {"mode": "training", "first_step": True, "optimizer": "adam"},
    {"device": "T4"},
    {"mode": "training", "optimizer": "adamw", "device": "RTX 3090", "precision": "fp16-autocast"},
    {"mode": "training", "optimizer": "adamw", "device": "T4", "cudnn_benchmark": True},
]


@pytest.mark.parametrize("options", SCENARIOS, ids=str)
def test_roles_sum_to_the_timeline(options: dict[str, Any]) -> None:
    report, step = made(Residual(), (2, 4, 32, 32), **options)
    assert report.memory is not None
    points = report.memory.timeline
    sums = [sum(column) for column in zip(*step.memory.roles.values(), strict=True)]
    assert sums == [point.live_bytes for point in points]
    assert list(step.memory.op) == [point.op for point in points]
    peak = max(range(len(sums)), key=sums.__getitem__)
    at_peak = {role: column[peak] for role, column in step.memory.roles.items() if column[peak]}
    assert at_peak == dict(report.memory.at_peak)


def test_roles_are_never_negative() -> None:
    _, step = made(Residual(), (2, 4, 32, 32), mode="training", optimizer="adamw", device="A10")
    assert min(min(column) for column in step.memory.roles.values()) >= 0


@pytest.mark.parametrize("options", [{}, {"mode": "training", "optimizer": "adamw"}], ids=str)
def test_operators_sum_to_the_totals(options: dict[str, Any]) -> None:
    report, step = made(Residual(), (2, 4, 32, 32), device="T4", **options)
    operators, totals = step.operators, report.totals
    assert sum(operators.flops) == totals.total_flops
    forward = [step.texts[number] in ("forward", "loss") for number in operators.phase]
    counted = zip(operators.elementwise_flops, forward, strict=True)
    assert sum(flops for flops, is_forward in counted if is_forward) == totals.elementwise_flops
    assert report.time is not None
    assert sum(operators.time_ms) == pytest.approx(report.time.total_ms, rel=1e-3)
    assert list(operators.start_ms) == sorted(operators.start_ms)


def test_bytes_of_an_operator_are_its_tensors_each_once() -> None:
    _, step = made(nn.Linear(8, 4, bias=False), (2, 8))
    assert step.operators.nbytes == ((2 * 8 + 8 * 4 + 2 * 4) * 4,)
    _, step = made(nn.ReLU(inplace=True), (2, 8))
    assert step.operators.nbytes == (2 * 8 * 4,)


def edges(step: Step) -> set[tuple[str, str, str]]:
    flow, text = step.flow, step.texts.__getitem__

    def name(node: int) -> str:
        call = flow.node_call[node]
        path = text(flow.calls[call]) if call >= 0 else ""
        return f"{path}:{text(flow.node_label[node])}"

    ends = zip(flow.edge_from, flow.edge_to, flow.edge_shape, strict=True)
    return {(name(source), name(target), text(shape)) for source, target, shape in ends}


def test_edges_say_what_flows_and_around_what() -> None:
    _, step = made(Residual(), (1, 4, 8, 8))
    shape = "[1, 4, 8, 8] float32"
    assert edges(step) == {
        (":x", "first:", shape),
        ("first:", "act:", shape),
        ("act:", "again:", shape),
        ("again:", "again:", shape),
        ("again:", ":add", shape),
        (":x", ":add", shape),
        (":add", ":0", shape),
    }
    paths = [step.texts[number] for number in step.flow.calls]
    assert paths == ["", "first", "act", "again", "again"]


def test_edges_lead_forward_and_views_and_in_place_operators_pass_on() -> None:
    _, step = made(Flat(), (2, 8))
    assert edges(step) == {(":x", ":", "[2, 8] float32"), (":", ":0", "[16] float32")}
    _, step = made(nn.Sequential(nn.Linear(8, 8), nn.Flatten(), nn.ReLU(inplace=True)), (2, 8))
    assert ("0:", "2:", "[2, 8] float32") in edges(step)
    assert all(a < b for a, b in zip(step.flow.edge_from, step.flow.edge_to, strict=True))


def test_a_repeated_forward_is_drawn_once() -> None:
    once = made(Residual(), (2, 4, 8, 8), mode="training")[1].flow
    for options in ({"accumulation": 2}, {"checkpointing": True}):
        flow = made(Residual(), (2, 4, 8, 8), mode="training", **options)[1].flow
        assert len(flow.calls) == len(once.calls)
        assert (flow.edge_from, flow.edge_to) == (once.edge_from, once.edge_to)


def test_a_failed_forward_is_drawn_up_to_the_layer() -> None:
    with pytest.raises(tg.TorchGaugeError) as caught:
        tg.analyze(Broken(), (1, 8), device="T4")
    report = caught.value.report  # type: ignore[attr-defined]
    step = step_of(report.trace)
    done = dict(zip(map(step.texts.__getitem__, step.flow.calls), step.flow.completed, strict=True))
    assert done == {"": False, "0": True, "1": True, "2": False}
    assert len(step.memory.op) == len(report.memory.timeline)


def test_it_is_plain_data() -> None:
    _, step = made(Residual(), (1, 4, 8, 8), device="T4")
    device = tg.devices.find_device("T4")
    assert step.to_dict()["roof"] == {
        "device": "T4",
        "flops_per_second": device.fp32_flops_per_second,
        "bytes_per_second": device.bandwidth_bytes_per_second,
    }
    assert len(step.texts) == len(set(step.texts))
