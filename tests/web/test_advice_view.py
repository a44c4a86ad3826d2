"""*What to change*: the figures of the JSON, by rank, the way to the goal and the code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from test_accessible import violations

import torchgauge as tg
from page_figures import figures, wrong
from torchgauge.facts.loop.advice import Accuracy, Advice, Fault, Suggestion
from torchgauge.facts.loop.comparison import Figure
from torchgauge.web.page import answer_html

pytestmark = pytest.mark.browser

CNN = "examples/simple_cnn.py:SimpleCNN"


@cache
def reached() -> Advice:
    return tg.advise(CNN, (3, 224, 224), goal="macs:-60%")


@cache
def missed() -> Advice:
    return tg.advise(
        "torchvision:resnet18", (3, 64, 64), batch_size=8, mode="training", device="T4",
        goal="memory:0.1GB", rules=("scenario", "low-rank"), prove=False,
    )  # fmt: skip


@cache
def hostile() -> Advice:
    """Texts of a model that would like to be markup; a fault, a change for the worse, no gain."""
    bad = "<img src=x onerror=alert(1)>" * 4
    made = tg.advise(CNN, (3, 224, 224), prove=False)
    suggestion = Suggestion(
        rule="r", text=bad, where=(bad, "features.3"), code=bad, why=bad,
        accuracy=Accuracy.SMALL, cost=bad, source=bad, proof=(bad,), snippet=(bad, bad),
        figures=(
            Figure(name="totals.params", before=10, after=20),
            Figure(name="totals.forward_macs", before=0, after=0),
            Figure(name="memory.device_bytes", before=None, after=None),
        ),
    )  # fmt: skip
    fault = Fault(rule="f", text=bad, where=("classifier",), code="", why=bad, remedy=bad)
    return replace(made, suggestions=(suggestion,), faults=(fault,), quiet=())


ALL = {"reached": reached, "missed": missed, "hostile": hostile}


@pytest.fixture
def shown(page_of: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Open the page of advice."""

    def opened(advice: Advice, **options: Any) -> Any:
        path = tmp_path / "advice.html"
        path.write_text(answer_html(advice), encoding="utf-8")
        return page_of(path, **options)

    return opened


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
@pytest.mark.parametrize("name", ALL)
def test_figures_are_those_of_the_json(
    name: str, language: str, shown: Callable[..., Any], data_of: Callable[..., Any]
) -> None:
    advice = ALL[name]()
    page = shown(advice, language=language)
    data = data_of(page)
    assert data["advice"]["advice"] == advice.to_dict()
    answer = {**data["answers"][0], "advice": data["advice"]["advice"]}
    assert list(wrong(page, answer)) == []
    of_advice = [field for field, _, _ in figures(page) if field.startswith("advice.")]
    assert len(of_advice) >= (2 if name == "hostile" else 8)


def test_rank_badge_place_proof_and_code(shown: Callable[..., Any]) -> None:
    advice = reached()
    page = shown(advice)
    cards = page.locator("#advice .suggestion")
    assert cards.locator("h3").all_inner_texts() == [item.text for item in advice.suggestions]
    assert set(cards.locator(".badge").all_inner_texts()) == {"needs retraining"}
    first, best = cards.first, advice.suggestions[0]
    said = first.locator("dl").inner_text()
    for text in (*best.where, best.code, best.why, best.cost, best.source, *best.proof):
        assert text in said
    assert first.locator("pre").inner_text() == "\n".join(best.snippet)
    assert cards.nth(1).locator("dl").is_hidden(), "the others are folded"
    cards.nth(1).locator("summary").click()
    assert cards.nth(1).locator("dl").is_visible()


def test_bars_are_as_long_as_the_figures(shown: Callable[..., Any]) -> None:
    page = shown(reached())
    for row in page.locator("#advice .shifts li").all():
        before, after = (float(item.get_attribute("value")) for item in row.locator("data").all())
        widths = [item.bounding_box()["width"] for item in row.locator(".bars span").all()]
        most = max(widths)
        assert widths[0] / most == pytest.approx(before / max(before, after), abs=0.02)
        assert widths[1] / most == pytest.approx(after / max(before, after), abs=0.02)


def test_the_way_to_the_goal_stands_on_itself(shown: Callable[..., Any]) -> None:
    advice = reached()
    page = shown(advice)
    assert "✓reached with 2 changes" in page.locator("#advice .goal .verdict").inner_text()
    boxes = [
        row.locator(".fall > :is(.saved, .left)").last.bounding_box()
        for row in page.locator("#advice .way li").all()
    ]
    ends = [box["x"] + box["width"] for box in boxes]
    starts = [box["x"] for box in boxes]
    assert len(boxes) == len(advice.path) + 1
    for number in range(2, len(boxes)):
        assert ends[number] == pytest.approx(starts[number - 1], abs=1.5), "it falls from there"
    limits = {round(item.bounding_box()["x"]) for item in page.locator(".fall .limit").all()}
    assert len(limits) == 1, "the goal is one line"
    assert starts[-1] < limits.pop()


def test_a_change_that_is_no_suggestion_is_shown_at_its_step(shown: Callable[..., Any]) -> None:
    """It saves nothing alone, or is made for what the steps before it leave."""
    (change,) = hostile().suggestions
    *others, last = reached().path
    page = shown(replace(reached(), path=(*others, replace(last, change=change))))
    more = page.locator("#advice .way .more")
    assert more.count() == 1, "of the other steps the suggestions say it"
    assert not more.locator("pre").is_visible()
    more.locator("summary").click()
    assert more.locator("pre").inner_text() == "\n".join(change.snippet)
    assert (
        more.bounding_box()["width"] > 0.9 * page.locator("#advice .way ol").bounding_box()["width"]
    )


def test_a_goal_that_is_not_reached_says_so(shown: Callable[..., Any]) -> None:
    page = shown(missed())
    assert "✗not reached" in page.locator("#advice .goal .verdict").inner_text()
    worse = page.locator("#advice .shifts li.worse").first.inner_text()
    assert "▲" in worse and "more" in worse


def test_a_place_is_selected_in_the_page(shown: Callable[..., Any]) -> None:
    page = shown(reached())
    page.locator("#advice button.place", has_text="features.3").first.click()
    assert "features" in page.locator("footer.selection").inner_text()


def test_quiet_rules_are_folded(shown: Callable[..., Any]) -> None:
    advice = reached()
    page = shown(advice)
    quiet = page.locator("#advice .quiet")
    assert quiet.locator("dl").is_hidden()
    assert quiet.locator("summary").inner_text() == f"{len(advice.quiet)} rules found nothing"
    quiet.locator("summary").click()
    assert quiet.locator("dt").all_inner_texts() == [item.rule for item in advice.quiet]


def test_sentences_are_chinese_on_a_chinese_page(shown: Callable[..., Any]) -> None:
    page = shown(reached(), language="zh-CN")
    for text in page.locator("#advice h3, #advice .suggestion dt, #advice .quiet dd").all():
        said = text.text_content()
        assert any("一" <= character <= "鿿" for character in said), said
    page.get_by_role("button", name="Switch to English").click()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#advice h2").inner_text() == "What to change"


def test_texts_never_become_markup(shown: Callable[..., Any]) -> None:
    page = shown(hostile())
    assert page.locator("#advice img").count() == 0
    assert page.locator("#advice .fault h3").inner_text().startswith("!Fault: <img")


@pytest.mark.parametrize("name", ALL)
def test_it_fits_a_phone(name: str, shown: Callable[..., Any]) -> None:
    page = shown(ALL[name](), width=390, height=844, language="zh-CN")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_it_is_accessible(shown: Callable[..., Any], dark: bool, language: str) -> None:
    for advice in (reached(), missed(), hostile()):
        page = shown(advice, dark=dark, language=language)
        page.evaluate("document.querySelectorAll('#advice details').forEach(d => d.open = true)")
        assert violations(page) == []


def test_the_line_of_a_summary_stands_below_the_answers(
    page_of: Callable[..., Any], data_of: Callable[..., Any]
) -> None:
    from torchgauge.advise.best import best_suggestion
    from torchgauge.models.requests import request_of

    report = tg.analyze(CNN, (3, 224, 224))
    request = request_of(CNN, (3, 224, 224), {})
    report = replace(report, suggestion=best_suggestion(request, report))
    page = page_of(report)
    best = page.locator("#answers .best")
    assert "average the 56 × 56 pixels before classifier" in best.inner_text()
    assert list(wrong(page, data_of(page)["answers"][0])) == []
    assert "suggestion.figures.0.after" in [field for field, _, _ in figures(page)]
    assert violations(page) == []
    assert page_of(tg.analyze(CNN, (3, 224, 224))).locator("#answers .best").count() == 0
