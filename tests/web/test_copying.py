"""Copying where the clipboard is not allowed: in the frame that a notebook shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import report_builder as build
from torchgauge.notebook.views import framed
from torchgauge.web.page import report_html

pytestmark = pytest.mark.browser


@pytest.fixture
def cell(browser: Any, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """Give a page with a frame as a cell has it, and the frame's page; the console stays empty."""
    path = tmp_path / "cell.html"
    frame = framed(report_html(build.transformer(2)), height=600)
    path.write_text(f'<!doctype html><meta charset="utf-8">{frame}<textarea></textarea>')
    problems: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(path.as_uri())
    page.frames[1].wait_for_selector("html[data-ready]")
    yield page, page.frames[1]
    page.close()
    assert problems == []


def test_a_sandboxed_frame_copies_without_an_error(cell: tuple[Any, Any]) -> None:
    page, frame = cell
    button = frame.get_by_role("button", name="Copy the notes")
    button.click()
    frame.get_by_text("Copied").first.wait_for()
    page.locator("textarea").focus()
    page.keyboard.press("Control+V")
    assert "How each number is made" in page.locator("textarea").input_value()


def test_it_says_where_nothing_can_be_copied(cell: tuple[Any, Any]) -> None:
    _, frame = cell
    frame.evaluate("document.execCommand = () => false")
    button = frame.get_by_role("button", name="Copy the notes")
    button.click()
    frame.get_by_text("Not copied: the browser forbids it").first.wait_for()
