"""What is worth speeding up: the roof is the datasheet's, the largest gain comes first."""

from __future__ import annotations

import pytest
from torch import nn

import torchgauge as tg
from torchgauge.devices import find_device
from torchgauge.facts.codec.wire import to_json
from torchgauge.facts.report import report_from_json
from torchgauge.render import get_format
from torchgauge.render.pages.report import report_page

DEVICE = find_device("RTX 3090")


def report_of(model: nn.Module, size: tuple[int, ...], **scenario: object) -> tg.Report:
    return tg.analyze(model, size, scenario=tg.Scenario(device="RTX 3090", **scenario))


def test_the_roof_of_a_product_is_its_flops_over_the_peak_rate():
    report = report_of(nn.Linear(4096, 4096, bias=False), (4096, 4096))
    (item,) = report.time.predicted.bottlenecks
    assert item.op == "aten.mm"
    assert item.roof_ms == pytest.approx(2 * 4096**3 / DEVICE.fp32_flops_per_second * 1e3)
    assert item.bound_by == "compute"
    assert item.time_ms == pytest.approx(report.time.total_ms, rel=0.05)


def test_the_roof_of_an_activation_is_its_bytes_over_the_peak_bandwidth():
    report = report_of(nn.Sigmoid(), (1 << 14, 1 << 14))
    (item,) = report.time.predicted.bottlenecks
    moved = 2 * 4 * (1 << 28)
    assert item.roof_ms == pytest.approx(moved / DEVICE.bandwidth_bytes_per_second * 1e3)
    assert item.bound_by == "memory"


def test_a_tiny_model_is_bound_by_launches():
    model = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(6)))
    items = report_of(model, (1, 8)).time.predicted.bottlenecks
    assert {item.bound_by for item in items} == {"launch"}
    assert len(items) == 10  # of twelve


def test_the_largest_gain_comes_first_and_is_never_more_than_the_time():
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 8, 1))
    report = report_of(model, (32, 3, 64, 64), mode="training", optimizer="sgd")
    items = report.time.predicted.bottlenecks
    gains = [item.gain_ms for item in items]
    assert gains == sorted(gains, reverse=True)
    assert all(0 < item.gain_ms <= item.time_ms for item in items)
    assert sum(gains) < report.time.total_ms


def test_text_and_json_show_them():
    report = report_of(nn.Sequential(nn.Linear(512, 512)), (64, 512))
    text = get_format("text").render(report_page(report))
    assert "Worth speeding up" in text and "at the peak rate" in text
    assert "0: aten.addmm takes" in " ".join(text.split())
    assert report_from_json(to_json(report)) == report
