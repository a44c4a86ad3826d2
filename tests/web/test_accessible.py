"""The page by the rules of WCAG 2.2: axe-core finds no violation in any theme, language or size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import page_reports
import torchgauge as tg

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

FADED = """Promise.allSettled(
    document.getAnimations().filter(one => one instanceof CSSTransition).map(one => one.finished)
).then(() => null)"""
"""Waits for what is on its way to a colour: half-way, texts have less contrast."""


def violations(page: Any) -> list[str]:
    """Return what axe-core finds, each with the first places."""
    if not AXE.is_file():
        pytest.fail(f"{AXE.name} is missing: make web installs it")
    page.evaluate(FADED)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        "levels => axe.run(document, {runOnly: {type: 'tag', values: levels}})", LEVELS
    )
    return [
        f"{item['id']}: {item['help']}: {[node['target'] for node in item['nodes'][:3]]}"
        for item in found["violations"]
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_a_training_step(page_of: Callable[..., Any], dark: bool, language: str) -> None:
    report = tg.analyze(
        "torchvision:resnet18", (3, 64, 64), batch_size=8, mode="training", device="T4"
    )
    page = page_of(report, dark=dark, language=language)
    assert violations(page) == []


def test_on_a_phone(page_of: Callable[..., Any]) -> None:
    report = tg.analyze("torchvision:resnet18", (3, 64, 64), device="T4")
    assert violations(page_of(report, width=390, height=844)) == []


@pytest.mark.parametrize("name", ["failed", "structure"])
def test_broken_and_empty_states(page_of: Callable[..., Any], name: str) -> None:
    assert violations(page_of(getattr(page_reports, name)())) == []


def test_two_reports(page_of: Callable[..., Any]) -> None:
    reports = [tg.analyze("torchvision:resnet18", (3, 64, 64), device=d) for d in ("T4", "A10")]
    assert violations(page_of(*reports)) == []
