"""Advice in the live page: found on request, applied to the model, shown against before, undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from live_server import MODELS, Live, live, settled
from test_accessible import violations

from page_figures import wrong
from torchgauge.facts.scenario import Scenario
from torchgauge.request import Inputs, Request

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
_PIXELS = "average the 8 × 8 pixels before head"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    path = tmp_path_factory.mktemp("live") / "net.py"
    path.write_text(MODELS, encoding="utf-8")
    training = Scenario(mode="training", optimizer="adamw", device="T4")
    pixels = Request(
        spec=f"{path}:Pixels", inputs=Inputs(size=(3, 8, 8), batch_size=4), scenario=training
    )
    with live([pixels, Request(spec=f"{path}:Net", inputs=Inputs(size=(2, 8)))]) as running:
        yield running


@pytest.fixture(scope="module")
def advice(server: Live) -> dict[str, Any]:
    return server.advise({})


def find(page: Page) -> None:
    """Ask for advice and wait for it."""
    page.locator("#advice .ask").click()
    page.wait_for_selector("#advice .suggestion", timeout=60_000)
    page.wait_for_function("() => !document.querySelector('#advice .status .mark')")


def apply(page: Page, text: str) -> None:
    """Apply a suggestion and wait until the page shows what came of it."""
    unfold(page)
    page.locator("#advice .suggestion", has_text=text).locator(".apply").click()
    settled(page)
    assert page.locator("#advice .list").is_hidden(), "what changed stands below"


def unfold(page: Page) -> None:
    page.evaluate("document.querySelector('#advice .found').open = true")


def figure_of(page: Page, field: str) -> tuple[float, float]:
    """Return a figure before and after, exactly."""
    row = page.locator(f"#compare [data-compare='{field}']")
    return tuple(float(row.get_attribute(f"data-{end}") or "") for end in ("before", "after"))  # type: ignore[return-value]


def promised(advice: dict[str, Any], text: str, field: str) -> tuple[float, float]:
    item = next(item for item in advice["advice"]["suggestions"] if item["text"] == text)
    figure = next(figure for figure in item["figures"] if figure["name"] == field)
    return figure["before"], figure["after"]


def test_figures_are_those_of_the_answer(
    opened: Callable[..., Page], advice: dict[str, Any], data_of: Callable[[Page], dict[str, Any]]
) -> None:
    page = opened()
    assert page.locator("#advice .suggestion").count() == 0, "nobody asked"
    find(page)
    data = data_of(page)
    answer = {**data["answers"][0], "advice": advice["advice"]}
    assert list(wrong(page, answer)) == []
    texts = page.locator("#advice .suggestion h3").all_inner_texts()
    assert texts == [item["text"] for item in advice["advice"]["suggestions"]]
    assert page.locator("#advice .ask").is_disabled(), "it is about what is shown"


def test_a_change_of_the_model_is_applied_shown_and_undone(
    opened: Callable[..., Page], advice: dict[str, Any]
) -> None:
    page = opened()
    find(page)
    apply(page, _PIXELS)
    for field in ("totals.params", "totals.forward_macs", "memory.device_bytes"):
        before, after = promised(advice, _PIXELS, field)
        if before != after:
            assert figure_of(page, field) == (before, after)
    applied = page.locator("#advice .applied")
    assert _PIXELS in applied.inner_text()
    assert "adaptive_avg_pool2d" in applied.locator("pre").inner_text()
    assert page.locator(".what-if .without").is_visible()
    assert page.locator("#advice .suggestion .apply", has_text="Applied").count() == 1
    page.locator("#advice .undo").click()
    settled(page)
    assert page.locator("#compare").count() == 0
    assert applied.inner_text() == "" and page.locator("#advice .undo").is_hidden()


def test_a_change_of_how_it_runs_is_that_of_the_controls(opened: Callable[..., Page]) -> None:
    page = opened()
    find(page)
    apply(page, "keep and compute everything in fp16")
    assert page.locator(".what-if [data-name=precision]").input_value() == "fp16"
    assert page.locator("#advice .applied").inner_text() == ""
    assert page.locator("#compare").count() == 1
    page.locator("#advice .undo").click()
    settled(page)
    assert page.locator(".what-if [data-name=precision]").input_value() == "as-built"


def test_several_are_applied_and_one_is_removed(opened: Callable[..., Page]) -> None:
    page = opened()
    find(page)
    apply(page, _PIXELS)
    _, one = figure_of(page, "totals.params")
    apply(page, "make deep a depthwise")
    _, both = figure_of(page, "totals.params")
    assert both < one
    assert page.locator("#advice .applied li").count() == 2
    page.locator("#advice .applied button", has_text="Remove").first.click()
    settled(page)
    assert page.locator("#advice .applied li").count() == 1
    _, other = figure_of(page, "totals.params")
    assert both < other and other != one
    assert page.locator("#advice .undo").is_hidden(), "there is nothing that came last"
    page.get_by_role("button", name="Reset").click()
    settled(page)
    assert page.locator("#advice .applied li").count() == 0


def test_the_address_holds_what_is_applied(opened: Callable[..., Page]) -> None:
    page = opened()
    find(page)
    apply(page, _PIXELS)
    figures = figure_of(page, "totals.params")
    page.reload()
    settled(page)
    assert figure_of(page, "totals.params") == figures
    assert _PIXELS in page.locator("#advice .applied").inner_text()
    other = opened("#set.applied=0123456789ab")
    other.wait_for_selector(".what-if .failed:not([hidden])")
    assert "is not known to this server" in other.locator(".what-if .failed").inner_text()


def test_advice_on_a_changed_model_does_not_repeat_itself(opened: Callable[..., Page]) -> None:
    page = opened()
    find(page)
    apply(page, _PIXELS)
    assert "Found before the last change" in page.locator("#advice .reading").inner_text()
    page.locator("#advice .ask").click()
    page.wait_for_function(
        "() => document.querySelector('#advice .reading').textContent.includes('traces')",
        timeout=60_000,
    )
    assert page.locator("#advice .suggestion h3", has_text=_PIXELS).count() == 0


def test_a_change_of_the_settings_ends_the_search(opened: Callable[..., Page]) -> None:
    page = opened()
    page.locator("#advice .ask").click()
    page.wait_for_selector("#advice .status .mark")
    page.locator(".what-if [data-name=batch-size]").fill("8")
    settled(page)
    assert page.locator("#advice .status .mark").count() == 0
    assert page.locator("#compare").count() == 1
    find(page)
    page.locator(".what-if [data-name=batch-size]").fill("4")
    settled(page)
    page.locator("#advice .ask").click()
    page.locator("#advice .cancel").click()
    assert page.locator("#advice .status .mark").count() == 0
    assert page.locator("#advice .ask").is_enabled()


def test_another_model_has_nothing_applied(opened: Callable[..., Page]) -> None:
    page = opened()
    find(page)
    apply(page, _PIXELS)
    page.locator("#models tbody tr").nth(1).locator("button").click()
    settled(page)
    assert page.locator("h1").inner_text() == "Net"
    assert page.locator("#advice .applied").inner_text() == ""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_it_is_accessible(opened: Callable[..., Page], dark: bool, language: str) -> None:
    page = opened(color_scheme="dark" if dark else "light", locale=language)
    find(page)
    assert violations(page) == []
    page.locator("#advice .apply").last.click()
    settled(page)
    assert violations(page) == []


def test_it_fits_a_phone(opened: Callable[..., Page]) -> None:
    page = opened(viewport={"width": 390, "height": 844}, locale="zh-CN")
    find(page)
    page.locator("#advice .apply").first.click()
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
