"""The answers: verdicts, times, sizes, what is heaviest; and what stands there without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import page_reports
import torchgauge as tg

pytestmark = pytest.mark.browser
PageOf = Callable[..., Any]


def test_a_step_that_fits(page_of: PageOf) -> None:
    page = page_of(page_reports.trained(), devices=["RTX 2080 Ti"])
    rows = page.locator(".on-device")
    assert rows.count() == 2
    assert "Fits" in rows.nth(0).inner_text() and "T4" in rows.nth(0).inner_text()
    assert "RTX 2080 Ti" in rows.nth(1).inner_text() and "a step" in rows.nth(1).inner_text()
    label = rows.nth(0).locator(".bar").get_attribute("aria-label")
    assert "of 14.75 GiB" in label and "four of five" in label


def test_a_step_that_does_not_fit(page_of: PageOf) -> None:
    with torch.device("meta"):
        model = nn.Linear(80_000, 80_000, bias=False)
    page = page_of(tg.analyze(model, (1, 80_000), device="T4"))
    assert "Does not fit" in page.locator(".verdict").inner_text()
    assert "too little" in page.locator(".on-device").inner_text()
    bar, capacity = (page.locator(f".bar .{name}").bounding_box() for name in ("used", "mark"))
    assert bar["x"] + bar["width"] > capacity["x"], "the bar goes over the mark"


def test_without_a_device_it_says_how_to_name_one(page_of: PageOf) -> None:
    page = page_of(page_reports.on_the_cpu())
    fits = page.locator(".fits")
    assert "No device was named" in fits.inner_text()
    button = fits.get_by_role("button", name="Copy --device T4")
    button.click()
    button.get_by_text("Copied").first.wait_for()
    assert "Name a GPU" in page.locator(".card.time").inner_text()


def test_a_failure_stands_on_top(page_of: PageOf) -> None:
    page = page_of(page_reports.failed())
    card = page.get_by_role("alert")
    text = card.inner_text()
    assert "neck (Linear) failed in the forward" in text
    assert "input [8, 32] float32" in text
    assert "RuntimeError" in text and "set in_features=32" in text
    assert card.bounding_box()["y"] < page.locator(".cards").bounding_box()["y"]
    card.get_by_text("Show the layer").click()
    assert "neck" in page.locator(".selection").inner_text()
    assert page.locator(".cell[data-failed]").get_attribute("data-path") == "neck"


def test_a_structure_has_its_size_alone(page_of: PageOf) -> None:
    page = page_of(page_reports.structure())
    assert "The model did not run" in page.locator(".fits").inner_text()
    assert "No MACs" in page.locator(".size").inner_text()
    assert page.locator("#when").count() == 0
    assert page.locator(".heavy").count() > 0


def test_a_measured_step_says_how_it_was_measured(page_of: PageOf) -> None:
    text = page_of(page_reports.measured()).locator(".card.time").inner_text()
    assert "measured on cpu" in text and "repetitions" in text and "confidence" in text


def test_equal_layers_are_one_line_and_a_click_selects(page_of: PageOf) -> None:
    page = page_of(page_reports.trained())
    first = page.locator(".heavy").first
    assert "blocks.*.mlp.0" in first.inner_text() and "× 4" in first.inner_text()
    first.click()
    assert page.locator(".heavy").first.get_attribute("aria-pressed") == "true"
    assert "mlp" in page.locator(".selection .path").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(".selection").is_hidden()


def test_the_measure_is_one_for_the_page(page_of: PageOf) -> None:
    page = page_of(page_reports.trained())
    page.locator(".heaviest [data-key=macs]").click()
    for place in (".heaviest", "#where"):
        pressed = page.locator(f"{place} .switcher [aria-pressed=true]")
        assert pressed.get_attribute("data-key") == "macs"
    assert "MACs" in page.locator(".heavy").first.inner_text()


def test_all_answers_are_copied_as_text(page_of: PageOf) -> None:
    page = page_of(page_reports.trained())
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#answers > header .copy").click()
    page.locator("#answers > header .copy").get_by_text("Copied").first.wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    lines = text.splitlines()
    assert lines[0].startswith("Fits?") and "Size" in text
    assert any("parameters" in line for line in lines)
