"""The page of ``torchgauge watch --ui`` in a browser: it follows what is saved."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_accessible import violations
from watched import BROKEN, NET, Watched, params, watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.timed]
_WAIT_MS = 120_000
HOSTILE = "\n\nraise ValueError('boom \\x1b[31m \\u202e</b>')\n"


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path) as running:
        yield running


@pytest.fixture
def opened(browser: Browser, watch: Watched) -> Iterator[Callable[..., Page]]:
    """Open the watched page; fails on what it says in the console or asks elsewhere."""
    problems: list[str] = []
    contexts: list[Any] = []

    def open_page(**options: Any) -> Page:
        context = browser.new_context(reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        own = tuple(f"{watch.url}/{path}" for path in ("?", "versions?", "analyses"))
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                request.url.startswith((*own, "blob:", "data:"))
                or problems.append(f"request: {request.url[:200]}")
            ),
        )
        page.goto(watch.page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def shows(page: Page, number: int) -> None:
    """Wait until the figures of a version are drawn."""
    page.wait_for_function(
        "number => document.documentElement.hasAttribute('data-ready')"
        " && !document.querySelector('.what-if[data-busy]')"
        " && document.querySelector('.watch b')?.innerText.match(/\\d+/)[0] == number",
        arg=number,
        timeout=_WAIT_MS,
    )


def shown_params(page: Page) -> int:
    return int(page.locator("[data-field='totals.params']").first.get_attribute("data-value") or 0)


def compared(page: Page) -> tuple[int, int]:
    """Return the parameters of the version that is compared with, and of this one."""
    row = page.locator("#compare [data-compare='totals.params']")
    return tuple(int(row.get_attribute(f"data-{end}") or 0) for end in ("before", "after"))  # type: ignore[return-value]


def test_the_page_follows_edits(watch: Watched, opened: Callable[..., Page]) -> None:
    page = opened(viewport={"width": 1280, "height": 900})
    shows(page, 1)
    assert shown_params(page) == params(8)
    assert page.locator("#compare").count() == 0 and page.locator("#versions").is_hidden()
    waits, drawing = [], []
    for number, width in enumerate((16, 32, 64), 2):
        saved = watch.save(width=f"WIDTH = {width}\n")
        shows(page, number)
        waits.append(time.time() - saved)
        line = page.locator(".watch .line").inner_text()
        assert "width_of_watched.py saved" in line
        figures = re.search(r"([\d.]+) s after the save", line)
        assert figures is not None
        drawing.append(waits[-1] - float(figures[1]))
        assert compared(page) == (params(width // 2), params(width))
    print("seconds from save to page:", [round(wait, 2) for wait in waits])
    print("of these, from figures to page:", [round(part, 2) for part in drawing])
    assert min(drawing) < 1.5, "the quickest: other programs of this machine slow the others"

    saved = watch.save(net=BROKEN)
    broken = page.locator(".watch .broken")
    broken.wait_for(timeout=_WAIT_MS)
    print("seconds from save to error:", round(time.time() - saved, 2))
    number = len(BROKEN.splitlines())
    assert f"net_of_watched.py:{number}: SyntaxError" in broken.inner_text()
    assert "Below are the figures of version 4" in broken.inner_text()
    assert page.title().startswith("✕ Net") and page.locator(".watch[data-stale]").count() == 1
    assert compared(page) == (params(32), params(64)), "the last good figures stay"

    watch.save(net=NET + "\n")
    shows(page, 6)
    assert broken.is_hidden() and page.locator(".watch[data-stale]").count() == 0
    assert page.locator("#compare .body").inner_text().startswith("No difference")
    page.get_by_role("button", name="Version 1 (first)").click()
    assert compared(page) == (params(8), params(64))
    assert watch.interrupt() == 130
    page.wait_for_selector(".watch[data-state=over]")
    assert "The watch has ended" in page.locator(".watch").inner_text()
    assert shown_params(page) == params(64)


def test_what_is_changed_on_the_page_is_asked_of_each_version(
    watch: Watched, opened: Callable[..., Page]
) -> None:
    page = opened(locale="zh-CN")
    shows(page, 1)
    page.locator("[data-name=batch-size]").fill("32")
    page.wait_for_selector("#compare", timeout=_WAIT_MS)
    watch.save(width="WIDTH = 16\n")
    shows(page, 2)
    page.wait_for_selector("#compare [data-compare='totals.forward_macs']", timeout=_WAIT_MS)
    row = page.locator("#compare [data-compare='totals.forward_macs']")
    before, after = (int(row.get_attribute(f"data-{end}") or 0) for end in ("before", "after"))
    assert (before, after) == (4 * 160, 32 * 160), "the new code, with the batch of the page"
    late = opened()
    shows(late, 2)
    assert compared(late) == (params(8), params(16)), "a tab that is opened late knows both"


def test_a_page_that_is_broken_from_the_start(watch: Watched, opened: Callable[..., Page]) -> None:
    watch.save(net=NET + HOSTILE)
    page = opened(viewport={"width": 390, "height": 844})
    broken = page.locator(".watch .broken")
    broken.wait_for(timeout=_WAIT_MS)
    text = broken.inner_text()
    assert "ValueError: boom \\x1b[31m \\u202e</b>" in text and "\x1b" not in text
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == []
    watch.save(net=NET)
    page.wait_for_selector("html[data-ready]", timeout=_WAIT_MS)
    assert shown_params(page) == params(8)
    watch.save(net=NET + HOSTILE)
    broken.wait_for(timeout=_WAIT_MS)
    assert "\u202e" not in page.locator("body").inner_text()
    assert violations(page) == []
