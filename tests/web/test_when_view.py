"""Memory over the step: the brush and its layers, the peak, the time by kind of kernel."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import page_reports
import torchgauge as tg
from torchgauge.units import format_bytes, format_milliseconds

pytestmark = pytest.mark.browser
PageOf = Callable[..., Any]


def drag(page: Any, start: float, end: float) -> None:
    """Drag over the picture, from and to a share of its width."""
    box = page.locator(".memory").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], middle, steps=5)
    page.mouse.up()


def range_of(page: Any) -> tuple[int, int]:
    first, last = (int(box.input_value()) for box in page.locator(".range input").all())
    return first, last


def sums(step: dict[str, Any], first: int, last: int) -> tuple[int, float, dict[str, float]]:
    """Operators and milliseconds in a range, and the milliseconds of each layer."""
    operators, texts = step["operators"], step["texts"]
    count, total, layers = 0, 0.0, {}
    rows = zip(operators["op"], operators["module"], operators["time_ms"], strict=True)
    for op, module, time in rows:
        if first <= op <= last:
            count, total = count + 1, total + time
            layers[texts[module]] = layers.get(texts[module], 0.0) + time
    return count, total, layers


def test_a_drag_lists_the_layers_in_it(page_of: PageOf, data_of: Callable[..., Any]) -> None:
    page = page_of(page_reports.trained())
    page.locator("#when .switcher button").first.click()  # operators along the axis
    page.locator(".memory").scroll_into_view_if_needed()
    drag(page, 0.2, 0.5)
    page.get_by_text("Layers in the range").wait_for()
    first, last = range_of(page)
    box = page.locator(".memory").bounding_box()
    left, right = (shade.bounding_box() for shade in page.locator(".shade").all())
    assert left["x"] + left["width"] == pytest.approx(box["x"] + 0.2 * box["width"], abs=25)
    assert right["x"] == pytest.approx(box["x"] + 0.5 * box["width"], abs=25)
    step = data_of(page)["answers"][0]["step"]
    ops = step["operators"]["op"]
    assert ops[0] < first < last < ops[-1]
    count, total, layers = sums(step, first, last)
    summary = page.locator(".in-range [role=status]").inner_text()
    assert summary.startswith(f"{count} operators · {format_milliseconds(total)} ·")
    heaviest = max(layers, key=lambda path: layers[path])
    shown = page.locator(".in-range tbody tr").evaluate_all("rows => rows.map(r => r.dataset.path)")
    assert {re.sub(r"\d+", "*", path) for path in shown} <= {
        re.sub(r"\d+", "*", path) for path in layers
    }
    assert any(re.sub(r"\d+", "*", heaviest) == re.sub(r"\d+", "*", path) for path in shown)
    page.get_by_text("Clear the range").click()
    assert page.locator(".in-range h3").inner_text() == "Layers of the step"
    assert page.get_by_text("Clear the range").is_disabled()
    assert page.locator(".memory").get_attribute("data-brushed") == "false"


def test_a_phase_is_taken_by_a_button_and_a_range_by_keys(
    page_of: PageOf, data_of: Callable[..., Any]
) -> None:
    page = page_of(page_reports.trained())
    step = data_of(page)["answers"][0]["step"]
    page.locator(".range .phases button", has_text="forward").click()
    first, last = range_of(page)
    phases = {
        step["texts"][phase]
        for op, phase in zip(step["operators"]["op"], step["operators"]["phase"], strict=True)
        if first <= op <= last
    }
    assert phases == {"forward"}
    boxes = page.locator(".range input")
    boxes.nth(0).fill("7")
    boxes.nth(1).fill("3")
    boxes.nth(1).press("Enter")
    assert range_of(page) == (3, 7)
    count, total, _ = sums(step, 3, 7)
    assert (
        f"{count} operators · {format_milliseconds(total)}"
        in page.locator(".in-range [role=status]").inner_text()
    )


def test_a_click_on_the_picture_selects_the_layer(page_of: PageOf) -> None:
    page = page_of(page_reports.trained())
    page.locator("#when .switcher button").first.click()
    page.locator(".memory").scroll_into_view_if_needed()
    box = page.locator(".memory").bounding_box()
    assert page.locator(".memory").get_attribute("data-lane") == "0"
    page.mouse.click(box["x"] + box["width"] * 0.15, box["y"] + box["height"] / 2)
    assert page.locator(".selection").is_visible()
    assert int(page.locator(".memory").get_attribute("data-lane")) > 0


def test_what_is_alive_at_the_peak_leads_to_its_layer(
    page_of: PageOf, data_of: Callable[..., Any]
) -> None:
    page = page_of(page_reports.trained())
    memory = data_of(page)["answers"][0]["report"]["memory"]
    rows = page.locator(".alive li")
    assert rows.count() == len(memory["alive_at_peak"])
    for shown, tensor in zip(rows.all_inner_texts(), memory["alive_at_peak"], strict=True):
        assert format_bytes(tensor["bytes"]) in shown and tensor["code"] in shown
    button = rows.locator("button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator(".selection").is_visible()


def test_roles_at_the_peak_sum_to_it(page_of: PageOf, data_of: Callable[..., Any]) -> None:
    page = page_of(page_reports.trained())
    memory = data_of(page)["answers"][0]["report"]["memory"]
    shown = page.locator(".role-list data").evaluate_all("all => all.map(e => +e.dataset.value)")
    assert sum(shown) == memory["peak_allocated_bytes"]
    label = page.locator(".memory [role=img]").get_attribute("aria-label")
    assert format_bytes(memory["peak_allocated_bytes"]) in label


@pytest.mark.parametrize("name", ["trained", "large"])
def test_drawing_fewer_points_keeps_the_peak(
    name: str, page_of: PageOf, data_of: Callable[..., Any]
) -> None:
    page = page_of(getattr(page_reports, name)())
    timeline = data_of(page)["answers"][0]["report"]["memory"]["timeline"]
    most = max(point["live_bytes"] for point in timeline)
    for button in page.locator("#when .switcher button").all():
        button.click()
        drawn = page.locator(".memory")
        assert int(drawn.get_attribute("data-points")) <= min(len(timeline), 2_100)
        assert int(drawn.get_attribute("data-highest")) == most
    rows = page.locator("#when .chart table tbody tr").all_inner_texts()
    assert format_bytes(most) in [row.split("\t")[1] for row in rows]


def test_a_hover_says_what_is_alive(page_of: PageOf, data_of: Callable[..., Any]) -> None:
    page = page_of(page_reports.trained())
    page.locator("#when .switcher button").first.click()
    page.locator(".memory").scroll_into_view_if_needed()
    box = page.locator(".memory").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = page.locator(".tip")
    tip.wait_for()
    sizes = {
        format_bytes(point["live_bytes"])
        for point in data_of(page)["answers"][0]["report"]["memory"]["timeline"]
    }
    assert tip.locator("strong").inner_text() in sizes
    assert "parameters" in tip.inner_text() and "operator" in tip.inner_text()


def test_time_by_kind_sums_to_the_step(page_of: PageOf, data_of: Callable[..., Any]) -> None:
    page = page_of(page_reports.trained())
    time = data_of(page)["answers"][0]["report"]["time"]
    shown = page.locator(".kinds data").evaluate_all("all => all.map(e => +e.dataset.value)")
    rest = time["total_ms"] - time["between_ops_ms"]
    assert sum(shown) == pytest.approx(rest, rel=0.02)


def test_a_loaded_report_has_the_total_alone(page_of: PageOf, tmp_path: Any) -> None:
    page_reports.trained().save(tmp_path / "report.json")
    page = page_of(tg.load(tmp_path / "report.json"))
    assert "has no roles" in page.locator("#when .reading").inner_text()
    assert page.locator(".range").count() == 0
    assert page.locator(".in-range").count() == 0
    assert page.locator(".alive li").count() > 0


def test_without_times_layers_are_ranked_by_what_they_move(page_of: PageOf) -> None:
    page = page_of(page_reports.on_the_cpu())
    assert "they move" in page.locator(".in-range [role=status]").inner_text()
    assert "No time" in page.locator(".panels").inner_text()
    assert page.locator("#when .switcher").count() == 0
