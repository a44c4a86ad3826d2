"""What a report says in words of ours: in the page's language, whichever it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import page_reports as reports
from torchgauge.facts.guess import Guess
from torchgauge.facts.report import Report
from torchgauge.facts.trace import NotCounted
from torchgauge.web.data import answer_data

LOSS = "loss: mean of all outputs, instead of the real loss"
UNFOLDED = "checkpointing: the model has no repeated blocks to checkpoint"
UNKNOWN = "no FLOP formula; add one with register_flop_formula"
ALL: dict[str, Callable[[], Report]] = {
    "trained": reports.trained, "cpu": reports.on_the_cpu, "measured": reports.measured,
    "failed": reports.failed,
}  # fmt: skip


def doubtful() -> Report:
    """A report with something of each kind: a guess, a warning, an operator without a rule."""
    return replace(
        reports.on_the_cpu(),
        assumptions=(LOSS, Guess("B = 7 was taken")),
        warnings=(UNFOLDED,),
        not_counted=(NotCounted(op="my::op", calls=2, why=UNKNOWN),),
    )


def sentences(report: Report) -> list[str]:
    found = [*report.assumptions, *report.warnings, *(gap.why for gap in report.not_counted)]
    return [*found, *([report.failure.hint] if report.failure else [])]


@pytest.mark.parametrize("name", ALL)
def test_every_sentence_has_its_translation(name: str) -> None:
    report = ALL[name]()
    chinese = answer_data(report)["chinese"]
    left = [text for text in sentences(report) if text and text not in chinese]
    assert not left
    assert all(re.search("[一-鿿]", text) for text in chinese.values())


def test_each_kind_of_sentence_is_there() -> None:
    assert set(answer_data(doubtful())["chinese"]) == {LOSS, UNFOLDED, UNKNOWN}


@pytest.mark.browser
@pytest.mark.parametrize("name", ["trained", "failed", "doubtful"])
def test_a_chinese_page_says_them_in_chinese(name: str, page_of: Callable[..., Any]) -> None:
    report = doubtful() if name == "doubtful" else ALL[name]()
    chinese = answer_data(report)["chinese"]
    known = [text for text in sentences(report) if text in chinese]
    assert known
    page = page_of(report, language="zh-CN")
    shown = page.locator("body").inner_text()
    assert not [text for text in known if text in shown]
    assert not [text for text in known if chinese[text] not in shown]
    page.get_by_role("button", name="Switch to English").click()
    page.wait_for_selector("html[data-ready]")
    shown = page.locator("body").inner_text()
    assert not [text for text in known if text not in shown]
