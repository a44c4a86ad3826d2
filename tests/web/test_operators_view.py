"""Operators: what the step ran, filtered by range and module, and the roofline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

import torchgauge as tg
from page_models import Blocks, trained

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
PageOf = Callable[..., Any]
DataOf = Callable[["Page"], dict[str, Any]]


def drawn(page: Page) -> list[list[str]]:
    """Return the rows that are drawn, in order: operator, module, phase, …"""
    found: list[list[str]] = page.locator("#operators .grid-body .grid-row").evaluate_all(
        "rows => rows.sort((a, b) => a.dataset.index - b.dataset.index)"
        ".map(row => [...row.children].map(cell => cell.textContent.replace(/[▸▾]/, '')))"
    )
    return found


def count(page: Page) -> int:
    return int(str(page.locator("#operators .grid").get_attribute("aria-rowcount"))) - 1


def step(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["answers"][0]["step"]
    return found


def test_operators_of_one_name_in_one_module_are_one_row(page_of: PageOf, data_of: DataOf) -> None:
    page = page_of(trained(Blocks(4)))
    operators = step(data_of(page))["operators"]
    pairs = set(zip(operators["name"], operators["module"], strict=True))
    assert count(page) == len(pairs) < len(operators["op"])
    page.get_by_label("Group by operator and module").uncheck()
    assert count(page) == len(operators["op"])


def test_a_group_opens_to_its_operators(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(4)))
    row = page.locator("#operators .grid-row[aria-expanded=false]").first
    calls = int(row.locator("> :nth-child(4)").inner_text())
    before = count(page)
    row.focus()
    page.keyboard.press("ArrowRight")
    assert count(page) == before + calls


def test_figures_are_those_of_the_data(page_of: PageOf, data_of: DataOf) -> None:
    page = page_of(trained(Blocks(4)))
    page.get_by_label("Group by operator and module").uncheck()
    operators = step(data_of(page))["operators"]
    cells = page.locator("#operators .grid [data-field]").evaluate_all(
        "cells => cells.map(cell => [cell.dataset.field, Number(cell.dataset.value)])"
    )
    assert len(cells) > 40
    for field, value in cells:
        column, place = field.removeprefix("step.operators.").split(".")
        assert operators[column][int(place)] == value, field


def test_what_takes_longest_stands_first(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(4)))
    header = page.locator("#operators [role=columnheader]:has([data-column=time])")
    assert header.get_attribute("aria-sort") == "descending"
    page.locator("#operators [data-column=name]").click()
    names = [row[0] for row in drawn(page)]
    assert names == sorted(names, key=str.lower)


def test_search_and_phase(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(4)))
    page.locator("#operators").get_by_label("Search operators and modules").fill("ADDMM")
    assert {row[0] for row in drawn(page)} == {"addmm"}
    page.locator("#operators select").select_option("backward")
    assert page.locator("#operators .grid-empty").is_visible()
    page.locator("#operators").get_by_label("Search operators and modules").fill("")
    assert {row[2] for row in drawn(page)} == {"backward"}


def test_a_selected_module_filters_until_it_is_lifted(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(4)))
    everything = count(page)
    page.locator('#table [data-key="stem"]').click()
    assert {row[1] for row in drawn(page)} == {"stem"}
    page.locator("#operators .filter", has_text="stem").click()
    assert count(page) == everything
    # A choice in the list itself marks a module and leaves the list as it is.
    page.locator("#operators .grid-row", has_text="head").first.click()
    assert count(page) == everything
    assert "head" in page.locator("footer.selection").inner_text()
    assert page.locator("#graph .part.selected").get_attribute("data-path") == "head"
    assert page.locator("#table .grid-row.selected").get_attribute("data-key") == "head"


def test_a_brushed_range_filters(page_of: PageOf, data_of: DataOf) -> None:
    page = page_of(trained(Blocks(4)))
    page.get_by_label("Group by operator and module").uncheck()
    page.locator("#when").get_by_role("button", name="backward", exact=True).click()
    operators = step(data_of(page))
    backward = operators["texts"].index("backward")
    places = [op for op, phase in zip(
        operators["operators"]["op"], operators["operators"]["phase"], strict=True
    ) if phase == backward]  # fmt: skip
    inside = [op for op in operators["operators"]["op"] if places[0] <= op <= places[-1]]
    assert count(page) == len(inside)
    assert {row[2] for row in drawn(page)} == {"backward"}
    page.locator("#operators .filter").click()
    assert count(page) == len(operators["operators"]["op"])


def test_a_dot_of_the_roofline_selects_its_module(page_of: PageOf, data_of: DataOf) -> None:
    page = page_of(trained(nn.Sequential(nn.Linear(1024, 1024), nn.ReLU()), 512, 1024))
    label = page.locator("#operators .chart-canvas").get_attribute("aria-label")
    assert str(label).startswith("Roofline of T4")
    table = page.locator("#operators .visually-hidden table")
    assert table.locator("tbody tr").count() >= 3
    canvas = page.locator("#operators .chart-canvas canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    for x in range(int(box["width"] * 0.55), int(box["width"]) - 20, 12):
        for y in range(26, int(box["height"] * 0.45), 10):
            page.mouse.click(box["x"] + x, box["y"] + y)
            if page.locator("footer.selection").is_visible():
                assert "Linear" in page.locator("footer.selection").inner_text()
                return
    pytest.fail("no dot was met")


def test_without_a_time_the_picture_shows_intensity_alone(page_of: PageOf) -> None:
    page = page_of(tg.analyze(Blocks(3), (2, 8)))
    assert "No GPU was named" in page.locator("#operators .roofline").inner_text()
    heads = page.locator("#operators .grid [data-column]").evaluate_all(
        "all => all.map(button => button.dataset.column)"
    )
    assert "time" not in heads and "bound" not in heads and "flops" in heads


def test_without_a_step_it_says_why(page_of: PageOf, tmp_path: Path) -> None:
    page = page_of(tg.analyze(Blocks()))
    assert "Give an input size" in page.locator("#operators .empty-state").inner_text()
    trained(Blocks(2)).save(tmp_path / "report.json")
    page = page_of(tg.load(tmp_path / "report.json"))
    assert "Analyze the model again" in page.locator("#operators .empty-state").inner_text()
