"""Every figure of the page is a number of the data, written as the terminal writes it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import page_reports
from page_figures import figures, look_up, wrong
from torchgauge.facts.report import Report
from torchgauge.units import (
    format_bytes,
    format_count,
    format_integer,
    format_milliseconds,
    format_percent,
    format_rate,
)
from torchgauge.web.data import page_data
from torchgauge.web.page import filled

pytestmark = pytest.mark.browser

REPORTS = ["trained", "on_the_cpu", "structure", "measured", "failed", "hostile"]


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
@pytest.mark.parametrize("name", REPORTS)
def test_figures_are_those_of_the_data(
    name: str, language: str, page_of: Callable[..., Any], data_of: Callable[..., Any]
) -> None:
    report: Report = getattr(page_reports, name)()
    page = page_of(report, language=language)
    page.evaluate("document.querySelector('.heavy')?.click()")  # the bar of the selected module
    answer = data_of(page)["answers"][-1]
    assert list(wrong(page, answer)) == []
    assert len(figures(page)) > (5 if name == "structure" else 15)


def test_a_wrong_figure_is_seen(page_of: Callable[..., Any], data_of: Callable[..., Any]) -> None:
    page = page_of(page_reports.trained())
    answer = data_of(page)["answers"][0]
    page.evaluate("document.querySelector('[data-field=\"totals.params\"]').textContent = '7'")
    page.evaluate("document.querySelector('[data-field=\"time.total_ms\"]').dataset.value = 7")
    assert len(list(wrong(page, answer))) == 2


def test_each_measure_shows_its_own_figures(
    page_of: Callable[..., Any], data_of: Callable[..., Any]
) -> None:
    page = page_of(page_reports.trained())
    answer = data_of(page)["answers"][0]
    seen = set()
    for measure in ("params", "macs", "activation", "time"):
        page.locator(f"#where .switcher [data-key={measure}]").click()
        assert list(wrong(page, answer)) == []
        seen |= {field.rpartition(".")[2] for field, _, _ in figures(page)}
    assert {"params", "macs", "saved_activation_bytes", "time_ms"} <= seen


def test_the_numbers_are_looked_up_by_name() -> None:
    answer = page_data(page_reports.trained())["answers"][0]
    assert look_up(answer, "totals.params") == page_reports.trained().totals.params
    assert look_up(answer, "modules.0.params") == page_reports.trained().totals.params
    assert look_up(answer, "own.0.params") == 0


def page_with(tmp_path: Path, change: Callable[[dict[str, Any]], None], number: int = 0) -> Path:
    """Write a page whose data were changed."""
    data = json.loads(json.dumps(page_data(page_reports.trained())))
    change(data["answers"][0])
    path = tmp_path / f"changed{number}.html"
    path.write_text(filled(data, title="changed"), encoding="utf-8")
    return path


def scattered(seed: int, count: int, least: float, most: float) -> list[float]:
    """Numbers of all sizes, with the places where the unit changes and ties of rounding."""
    random.seed(seed)
    found = [10 ** random.uniform(least, most) for _ in range(count - 8)]
    return [*found, 999.996, 1023.996, 1e6 - 1, 1.0, 1152.0, 1408.0, 1.125, 1.375]


def test_bytes_times_and_shares_are_written_as_in_the_terminal(
    page_of: Callable[..., Any], tmp_path: Path
) -> None:
    needed = [round(value) for value in scattered(1, 500, 0, 15)]
    times = scattered(2, 500, -4, 7)

    def change(answer: dict[str, Any]) -> None:
        answer["devices"] = [
            {
                "device": str(index),
                "device_bytes": size,
                "capacity_bytes": 3 * size + 7,
                "low_bytes": size,
                "high_bytes": size,
                "verdict": "fits",
                "total_ms": time,
            }
            for index, (size, time) in enumerate(zip(needed, times, strict=True))
        ]

    page = page_of(page_with(tmp_path, change))
    rows = page.locator(".on-device").all_inner_texts()
    assert len(rows) == len(needed) == 500
    for row, size, time in zip(rows, needed, times, strict=True):
        capacity = 3 * size + 7
        share = format_percent(size, capacity)
        assert f"needs {format_bytes(size)} of {format_bytes(capacity)} · {share} used" in row
        assert f" · {format_milliseconds(time)} a step" in row


def test_counts_and_rates_are_written_as_in_the_terminal(
    page_of: Callable[..., Any], tmp_path: Path
) -> None:
    values = scattered(3, 500, 0, 18)
    gaps = [round(value) for value in values if value < 2**53]

    def change(answer: dict[str, Any]) -> None:
        answer["report"]["not_counted"] = [{"op": "x", "calls": value, "why": ""} for value in gaps]

    page = page_of(page_with(tmp_path, change))
    shown = page.locator("#notes .gaps td:nth-child(2)").all_inner_texts()
    assert shown == [format_integer(value) for value in gaps]

    for number, value in enumerate(values[::50]):
        page = page_of(page_with(tmp_path, lambda answer: of_size(answer, value), number))  # noqa: B023
        size, time = page.locator(".size").inner_text(), page.locator(".time").inner_text()
        assert format_count(round(value)) in size
        assert format_count(round(value), "MACs") in size
        assert f"{format_rate(value)} samples/s" in time


def of_size(answer: dict[str, Any], value: float) -> None:
    report = answer["report"]
    report["totals"]["params"] = report["totals"]["forward_macs"] = round(value)
    report["time"]["predicted"]["samples_per_second"] = value
