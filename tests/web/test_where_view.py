"""The icicle: parts sum to the whole, folds open, zoom by mouse and keys, one selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import page_reports

pytestmark = pytest.mark.browser
PageOf = Callable[..., Any]

_CELLS = """() => [...document.querySelectorAll('.cell')].map(cell => ({
    path: cell.dataset.path, row: Number(cell.dataset.row), count: Number(cell.dataset.count),
    left: parseFloat(cell.style.left), width: parseFloat(cell.style.width),
    value: Number(cell.querySelector('data')?.dataset.value ?? NaN)}))"""


def cells(page: Any, row: int) -> list[dict[str, Any]]:
    """The boxes of a row, from left to right, with their share of the width in percent."""
    return [cell for cell in page.evaluate(_CELLS) if cell["row"] == row]


@pytest.mark.parametrize("measure", ["params", "macs", "activation", "time"])
def test_parts_are_as_wide_as_their_share(
    measure: str, page_of: PageOf, data_of: Callable[..., Any]
) -> None:
    page = page_of(page_reports.trained())
    page.locator(f"#where [data-key={measure}]").click()
    answer = data_of(page)["answers"][0]
    cost = {
        "params": "params",
        "macs": "macs",
        "activation": "saved_activation_bytes",
        "time": "time_ms",
    }[measure]
    own = dict(
        zip((m["path"] for m in answer["report"]["modules"]), answer["own"][cost], strict=True)
    )
    whole = sum(own.values())
    for cell in cells(page, 1):
        below = [v for path, v in own.items() if f"{path}.".startswith(f"{cell['path']}.")]
        assert cell["width"] == pytest.approx(100 * sum(below) / whole, abs=0.01)
    total = sum(cell["width"] for cell in cells(page, 1))
    assert total == pytest.approx(100 * (whole - own[""]) / whole, abs=0.5)
    note = page.locator("#where .note")
    assert note.is_visible() == (measure == "time")


def test_equal_blocks_are_one_box_until_opened(page_of: PageOf) -> None:
    page = page_of(page_reports.trained())
    (fold,) = cells(page, 2)
    assert fold["count"] == 4
    box = page.locator(".cell[data-row='2']")
    assert "Block × 4" in box.inner_text()
    box.click()
    blocks = cells(page, 1)
    assert [cell["path"] for cell in blocks] == [f"blocks.{number}" for number in range(4)]
    assert all(cell["width"] == pytest.approx(25) for cell in blocks)
    assert page.locator(".crumbs [aria-current]").inner_text() == "blocks"


def test_a_click_zooms_and_the_way_back_is_there(page_of: PageOf) -> None:
    page = page_of(page_reports.trained())
    page.locator(".cell[data-path='blocks']").click()
    assert cells(page, 0)[0]["path"] == "blocks"
    assert "blocks" in page.locator(".selection").inner_text()
    page.locator(".cell[data-path='blocks.2']").click()
    assert page.locator(".crumbs").inner_text().split() == ["Net", "blocks", "2"]
    page.locator(".cell[data-row='0']").click()
    assert cells(page, 0)[0]["path"] == "blocks"
    page.locator(".crumbs button").first.click()
    assert cells(page, 0)[0]["path"] == ""
    assert cells(page, 2)[0]["count"] == 4


def test_all_by_keyboard(page_of: PageOf) -> None:
    page = page_of(page_reports.trained())
    page.locator(".cell[tabindex='0']").focus()
    focused = "document.activeElement.dataset.path"
    assert page.locator(".cell[tabindex='0']").count() == 1
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == "embed"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "blocks"
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "blocks"
    assert cells(page, 0)[0]["path"] == "blocks"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "blocks.1"
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == "blocks"
    page.keyboard.press("Backspace")
    assert cells(page, 0)[0]["path"] == ""
    page.keyboard.press("Home")
    assert page.evaluate(focused) == ""


def test_what_is_selected_elsewhere_is_marked_here(page_of: PageOf) -> None:
    page = page_of(page_reports.trained())
    page.locator(".cell[data-path='blocks']").click()
    page.locator(".cell[data-path='blocks.1']").click()
    page.locator("#when .in-range .layer", has_text="embed").click()
    assert cells(page, 0)[0]["path"] == "", "it zooms out to what is selected"
    assert page.locator(".cell[data-selected]").get_attribute("data-path") == "embed"


def test_a_fold_is_marked_for_the_module_inside(page_of: PageOf) -> None:
    page = page_of(page_reports.trained(), hash="#selected=blocks.2.mlp.0")
    marked = page.locator(".cell[data-selected]")
    assert marked.get_attribute("data-path") == "blocks.0.mlp.0"
    assert marked.get_attribute("data-count") == "4"


def test_a_screen_reader_has_a_table(page_of: PageOf) -> None:
    page = page_of(page_reports.trained())
    rows = page.locator("#where table tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == ["embed", "blocks", "neck", "head"]
    label = page.locator(".cell[data-path='blocks'][data-row='1']").get_attribute("title")
    assert "Sequential" in label and "% of the model" in label


def test_narrow_modules_are_merged_and_reached_by_zooming(page_of: PageOf) -> None:
    page = page_of(page_reports.large())
    assert page.locator(".cell").count() < 1_000
    merged = page.locator(".cell.merged[data-row='2']").first
    before = cells(page, 0)[0]["path"]
    merged.click()
    assert cells(page, 0)[0]["path"] != before
    assert len(cells(page, 1)) > 1
    for row in range(1, 4):
        boxes = cells(page, row)
        assert all(box["left"] + box["width"] <= 100.01 for box in boxes)
