"""The page opens in a browser, without an error and without a request (``page_of`` sees to it)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import page_reports

pytestmark = pytest.mark.browser
PageOf = Callable[..., Any]

_WATCH = """
  window.longest = 0;
  new PerformanceObserver(list => list.getEntries().forEach(entry =>
    window.longest = Math.max(window.longest, entry.duration))).observe({type: "longtask"});
"""
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


@pytest.mark.parametrize("name", ["trained", "on_the_cpu", "structure", "measured", "failed"])
@pytest.mark.parametrize("width", [390, 1440, 3840])
def test_reports_open_at_any_width(name: str, width: int, page_of: PageOf) -> None:
    page = page_of(getattr(page_reports, name)(), width=width)
    assert page.locator("h1").inner_text() == "Net"
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, "nothing sticks out at the side"


def test_nothing_is_smaller_than_12_px(page_of: PageOf) -> None:
    page = page_of(page_reports.trained(), width=390)
    smallest = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll('body *')]
            .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
            .map(e => parseFloat(getComputedStyle(e).fontSize)))"""
    )
    assert smallest >= 12


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_names_stay_text(language: str, page_of: PageOf) -> None:
    page = page_of(page_reports.hostile(), language=language)
    assert page.locator("h1").inner_text() == page_reports.HOSTILE
    page.locator(".memory").hover()
    for button in page.locator(".cell, .heavy, .layer").all()[:12]:
        if button.is_visible():
            button.click()
    assert page.evaluate("document.querySelectorAll('#app script, #app b, #app img').length") == 0
    assert page_reports.CHINESE in page.locator("#where").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440


def test_a_small_report_is_painted_within_a_second(page_of: PageOf) -> None:
    """The fastest of three: the machine may do other work."""
    pages = [page_of(page_reports.trained()) for _ in range(3)]
    assert min(page.evaluate(_PAINT) for page in pages) < 1_000


def test_10_000_modules_are_ready_within_two_seconds(page_of: PageOf) -> None:
    pages = [page_of(page_reports.large()) for _ in range(3)]
    assert len(page_reports.large().modules) > 10_000
    assert min(page.evaluate(_PAINT) for page in pages) < 2_000
    page = pages[-1]
    page.evaluate(_WATCH)
    for _ in range(20):
        page.mouse.wheel(0, 200)
        page.wait_for_timeout(20)
    assert page.evaluate("window.longest") < 200
