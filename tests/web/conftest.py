"""Pages in a real browser: Debian's Chromium, driven by Playwright (``make test-browser``)."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from live_server import settled

from lean_data import whole
from torchgauge.facts.report import Report
from torchgauge.web.page import report_html

if TYPE_CHECKING:
    from live_server import Live
    from playwright.sync_api import Browser, Page

PageOf = Callable[..., "Page"]
"""``page_of(report, devices=[…], width=390, height=844, dark=True, language="zh-CN")``"""

_READY_MS = 20_000


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the page of reports, each but once: that of 10,000 modules takes seconds."""
    folder = tmp_path_factory.mktemp("pages")
    known: list[tuple[tuple[Report, ...], dict[str, Any], Path]] = []

    def path_of(reports: tuple[Report, ...], options: dict[str, Any]) -> Path:
        for others, given, path in known:
            same = len(others) == len(reports) and all(map(operator.is_, others, reports))
            if same and given == options:
                return path
        path = folder / f"page{len(known)}.html"
        path.write_text(report_html(*reports, **options), encoding="utf-8")
        known.append((reports, options, path))
        return path

    return path_of


@pytest.fixture
def page_of(browser: Browser, written: Callable[..., Path]) -> Iterator[PageOf]:
    """Open the page of a report, ready to be used, at the size of a desktop.

    Takes reports (two are compared) or the path of a page. The test fails when the page writes to
    the console, raises an error, or asks for anything but its own file.
    """
    problems: list[str] = []
    contexts: list[Any] = []

    def opened(
        *shown: Report | Path,
        width: int = 1440,
        height: int = 900,
        dark: bool = False,
        language: str = "en-US",
        hash: str = "",
        **options: Any,
    ) -> Page:
        first = shown[0]
        path = first if isinstance(first, Path) else written(shown, options)
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            locale=language,
            reduced_motion="reduce",
            accept_downloads=True,
        )
        contexts.append(context)
        page: Page = context.new_page()
        page.set_default_timeout(_READY_MS)
        own = path.as_uri()
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("request", lambda request: _note_request(request.url, own, problems))
        page.goto(own + hash)
        page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def _note_request(url: str, own: str, problems: list[str]) -> None:
    """Note what is not the page itself; ``blob:`` and ``data:`` come from the page."""
    if url.split("#")[0].split("?")[0] != own and not url.startswith(("blob:", "data:")):
        problems.append(f"request: {url[:200]}")


@pytest.fixture
def data_of() -> Callable[[Page], dict[str, Any]]:
    """Return the data that stand in a page."""
    script = "() => document.getElementById('data').textContent"

    def data(page: Page) -> dict[str, Any]:
        found: dict[str, Any] = whole(json.loads(page.evaluate(script)))
        return found

    return data


@pytest.fixture
def opened(browser: Browser, server: Live) -> Iterator[Callable[..., Page]]:
    """Open the page of the module's ``server``; fails on what it says or asks elsewhere."""
    problems: list[str] = []
    contexts: list[Any] = []

    def open_page(hash: str = "", **options: Any) -> Page:
        context = browser.new_context(reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: _note_text(message.text, problems))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("request", lambda request: _note_other(request.url, server.url, problems))
        page.goto(server.page + hash)
        settled(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def _note_text(text: str, problems: list[str]) -> None:
    """Note what the page says; the browser itself says that a question was refused."""
    if "status of 422" not in text:
        problems.append(f"console: {text}")


def _note_other(url: str, own: str, problems: list[str]) -> None:
    if not url.startswith((f"{own}/?", f"{own}/analyses", f"{own}/advice", "blob:", "data:")):
        problems.append(f"request: {url[:200]}")
