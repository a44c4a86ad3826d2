"""The header: what was run, language and theme without a reload, the data as a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import page_reports
import torchgauge as tg

pytestmark = pytest.mark.browser
PageOf = Callable[..., Any]


def test_the_chips_say_what_was_run(page_of: PageOf) -> None:
    chips = page_of(page_reports.trained()).locator(".chips li").all_inner_texts()
    assert chips[:2] == ["training", "batch 8"]
    assert {"adamw", "T4", "simulated"} <= set(chips)
    assert any("[8, 16]" in chip for chip in chips)


def test_the_language_changes_in_place(page_of: PageOf) -> None:
    page = page_of(page_reports.trained())
    page.locator(".heavy").first.click()
    page.locator(".cell[data-path='blocks'][data-row='1']").click()
    page.evaluate("document.body.dataset.mark = 'same page'")
    page.get_by_text("中文").click()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#answers h2").inner_text() == "结论"
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.locator("body").get_attribute("data-mark") == "same page"
    assert page.locator(".selection").is_visible()
    assert page.locator(".crumbs [aria-current]").inner_text() == "blocks"
    page.get_by_text("English").click()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#answers h2").inner_text() == "Answers"
    assert page.locator("main > section").count() == len(
        set(page.evaluate("[...document.querySelectorAll('main > section')].map(e => e.id)"))
    )


def test_the_address_chooses_the_language(page_of: PageOf) -> None:
    page = page_of(page_reports.on_the_cpu(), hash="?lang=zh")
    assert page.locator("#where h2").inner_text() == "在哪里"


def test_what_an_address_asks_for_is_checked(page_of: PageOf) -> None:
    page = page_of(page_reports.trained(), hash="#measure=__proto__&theme=x&selected=nowhere")
    assert page.locator("#where [aria-pressed=true]").get_attribute("data-key") == "params"
    assert page.locator(".selection").is_hidden()


def test_the_theme_changes_every_colour(page_of: PageOf) -> None:
    page = page_of(page_reports.trained())
    background = "getComputedStyle(document.documentElement).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.get_by_role("button", name="Light or dark").click()
    assert page.evaluate(background) == "rgb(13, 17, 23)"


def test_the_data_are_saved_as_a_report(page_of: PageOf, tmp_path: Path) -> None:
    report = page_reports.trained()
    page = page_of(report)
    with page.expect_download() as saved:
        page.get_by_text("Save data").click()
    path = tmp_path / saved.value.suggested_filename
    saved.value.save_as(path)
    assert path.name == "Net.json"
    assert tg.load(path).to_json() == report.to_json()
