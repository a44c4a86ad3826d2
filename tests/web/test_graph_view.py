"""How: the graph of nested boxes, folded, opened in place, walked by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

import torchgauge as tg
from page_models import Blocks, Failing, Functional, Shared, failed, trained, unequal_layers
from torchgauge.models.torchvision_operators import define_missing_operators

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser
PageOf = Callable[..., Any]

MOST_PARTS = 100
OPENING_MS = 1000


def parts(page: Page, kind: str = "") -> Locator:
    return page.locator(f"#graph [data-id]{f'[data-kind={kind}]' if kind else ''}")


def box(page: Page, path: str) -> Locator:
    return page.locator(f'#graph [data-path="{path}"]:not([data-kind=operator])')


def labels(page: Page, kind: str = "") -> list[str]:
    found = parts(page, kind)
    return [str(found.nth(index).get_attribute("aria-label")) for index in range(found.count())]


def text_of(drawn: Locator) -> str:
    return str(drawn.text_content())


def seconds_of_work(page: Page, act: Callable[[], Any]) -> float:
    """Return the processor time of the page's thread: other programs on the machine add nothing."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(item["value"] for item in metrics if item["name"] == "TaskDuration"))

    before = spent()
    act()
    page.wait_for_timeout(100)
    return spent() - before


def test_equal_neighbours_are_one_box_that_opens_in_place(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    page.get_by_role("button", name="Close all").first.click()
    (fold,) = labels(page, "fold")
    assert fold == "blocks.0–11 × 12 · Block · 12 equal modules"
    assert parts(page).count() == 6  # the input, stem, mul, the fold, head, the output
    assert "× 12" in text_of(parts(page, "fold"))
    parts(page, "fold").locator(".opener").click()
    assert [text.split(" · ")[0] for text in labels(page)[4:9]] == [
        "norm", "up", "relu", "down", "add",
    ]  # fmt: skip
    assert parts(page, "fold").get_attribute("aria-expanded") == "true"
    parts(page, "fold").locator(".opener").click()
    assert parts(page).count() == 6


def test_a_residual_is_an_arc_beside_the_boxes(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    assert page.locator("#graph .edge.long").count() == 1
    assert "[2, 8] float32" in str(page.locator("#graph .edge.long title").text_content())


def test_edges_say_what_flows(page_of: PageOf) -> None:
    page = page_of(tg.analyze(nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8)), (2, 8)))
    texts = page.locator("#graph .edge").evaluate_all(
        "edges => edges.map(edge => edge.dataset.shape)"
    )
    assert texts == ["[2, 8] float32", "[2, 32] float32", "[2, 32] float32", "[2, 8] float32"]
    assert page.locator("#graph text.shape").all_text_contents() == ["2×8", "2×32", "2×32", "2×8"]


def test_another_copy_of_a_fold_is_shown(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    box(page, "blocks.0").first.focus()
    page.get_by_role("button", name="Next copy").click()
    assert "2 / 12" in text_of(page.locator("#graph .heading"))
    assert page.locator("#graph .graph-details h3").inner_text() == "blocks.1"
    assert box(page, "blocks.1.up").count() == 1 and box(page, "blocks.0.up").count() == 0


def test_a_module_that_is_called_twice_has_two_boxes(page_of: PageOf) -> None:
    page = page_of(tg.analyze(Shared(), (2, 8)))
    assert [text for text in labels(page, "call") if text.startswith("first")] == [
        "first · Linear · call 1 of 2",
        "first · Linear · call 2 of 2",
    ]
    box(page, "first").first.click()
    assert page.locator("#graph .part.selected").count() == 2


def test_the_keyboard_walks_along_the_edges(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    page.get_by_role("button", name="Close all").first.click()
    parts(page, "input").focus()
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    focused = page.locator("#graph [data-id]:focus")
    assert focused.get_attribute("data-path") == "head"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("+")
    assert focused.get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowDown")
    assert str(focused.get_attribute("aria-label")).startswith("norm")
    page.keyboard.press("Enter")
    assert page.locator("footer.selection").inner_text().count("norm") == 1
    page.keyboard.press("-")
    assert focused.get_attribute("data-kind") == "fold"
    assert focused.get_attribute("aria-expanded") == "false"


def test_zoom_by_button_key_and_wheel(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    canvas, zoom = page.locator(".graph-canvas"), page.locator(".graph-zoom")
    page.get_by_role("button", name="Zoom in").click()
    assert zoom.inner_text() == "125 %"
    canvas.focus()
    page.keyboard.press("-")
    assert zoom.inner_text() == "100 %"
    canvas.hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, 120)
    page.keyboard.up("Control")
    page.locator(".graph-zoom", has_text="67 %").wait_for()
    canvas.focus()
    page.keyboard.press("0")
    shown = canvas.evaluate("element => [element.scrollHeight, element.clientHeight]")
    assert shown[0] <= shown[1] + 1


def test_what_is_selected_elsewhere_is_opened_and_marked(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    page.get_by_role("button", name="Close all").first.click()
    page.get_by_label("Fold equal layers").uncheck()
    page.get_by_label("Search layers and types").fill("blocks.7.down")
    page.locator('#table [data-key="blocks.7.down"]').click()
    chosen = page.locator("#graph .part.selected")
    assert chosen.get_attribute("data-path") == "blocks.7.down"
    assert "8 / 12" in text_of(page.locator("#graph .heading"))


def test_what_is_selected_in_the_graph_is_marked_in_the_table(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    box(page, "blocks.0.down").click()
    rows = page.locator("#table .grid-row.selected")
    assert rows.get_attribute("data-key") == "blocks.0.down"
    assert rows.get_attribute("aria-selected") == "true"


def test_the_layer_that_failed_is_red(page_of: PageOf) -> None:
    page = page_of(failed(Failing()))
    red = page.locator("#graph .part.failed.here")
    assert red.get_attribute("data-path") == "head.1"
    assert "failed here" in str(red.get_attribute("aria-label"))
    assert box(page, "head").get_attribute("class") == "part container level-1 failed inside"
    assert page.locator("#graph .graph-failure strong").inner_text() == "Failed in head.1"
    # What ran before it is there, and what never ran is not.
    assert box(page, "body").count() == 1 and box(page, "head.2").count() == 0


def test_a_closed_box_with_the_failure_is_red(page_of: PageOf) -> None:
    page = page_of(failed(Failing()))
    page.get_by_role("button", name="Close all").first.click()
    assert str(box(page, "head").get_attribute("aria-label")).endswith("failed inside")


def test_a_model_of_functions_alone_is_one_box(page_of: PageOf) -> None:
    page = page_of(tg.analyze(Functional(), (2, 8, 8)))
    assert labels(page) == ["x · input", "Functional · Functional", "output · output"]


def test_three_hundred_layers_open_folded_at_once(page_of: PageOf) -> None:
    page = page_of(tg.analyze(unequal_layers(300), (1, 8)))
    assert 10 < parts(page).count() <= MOST_PARTS
    assert labels(page, "group")[0] == "0 … 14 · 15 parts"
    page.get_by_role("button", name="Open one level").click()
    work = seconds_of_work(page, lambda: page.get_by_role("button", name="Close all").first.click())
    assert work * 1000 < OPENING_MS
    work = seconds_of_work(page, lambda: page.get_by_role("button", name="Open one level").click())
    assert parts(page).count() > MOST_PARTS
    assert work * 1000 < OPENING_MS


def test_never_more_parts_than_a_drawing_holds(page_of: PageOf) -> None:
    page = page_of(tg.analyze(unequal_layers(1000), (1, 8)))
    assert parts(page, "group").count() == 20
    for index in range(40):
        group = parts(page, "group").nth(index)
        if group.get_attribute("aria-expanded") == "false":
            group.focus()
            page.keyboard.press("+")
    assert MOST_PARTS < parts(page).count() <= 300


def test_without_a_run_it_says_why(page_of: PageOf, tmp_path: Path) -> None:
    page = page_of(tg.analyze(Blocks()))
    assert "Give an input size" in page.locator("#graph .empty-state").inner_text()
    tg.analyze(Blocks(), (2, 8)).save(tmp_path / "report.json")
    page = page_of(tg.load(tmp_path / "report.json"))
    assert "Analyze the model again" in page.locator("#graph .empty-state").inner_text()


def test_names_are_text(page_of: PageOf) -> None:
    model = nn.Sequential()
    name = "<b>&\u202e" + "x" * 10_000
    model.add_module(name, type("</script><script>alert(1)</script>", (nn.ReLU,), {})())
    model.add_module("线性层", nn.Linear(8, 8))
    page = page_of(tg.analyze(model, (2, 8), model_name="<img src=x onerror=alert(1)>"))
    assert page.locator("#graph b, #graph img, #graph script").count() == 0
    assert "线性层" in text_of(page.locator("#graph svg"))
    parts(page, "call").first.click()
    assert len(page.locator("#graph .graph-details").inner_text()) < 1000


def test_resnet50(page_of: PageOf) -> None:
    define_missing_operators()
    pytest.importorskip("torchvision")
    page = page_of(tg.analyze("torchvision:resnet50", (3, 224, 224), batch_size=2))
    assert parts(page).count() <= MOST_PARTS
    folds = [text.split(" · ")[0] for text in labels(page, "fold")]
    assert folds == ["1–2 × 2", "1–3 × 3", "1–5 × 5", "1–2 × 2"]
    page.get_by_role("button", name="Open one level").click()
    # Each block has its residual: beside a downsample, or around the block.
    assert page.locator("#graph .edge.long").count() == 8


def test_a_llama(page_of: PageOf) -> None:
    define_missing_operators()
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=8, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=100,
    )  # fmt: skip
    page = page_of(tg.analyze(transformers.LlamaForCausalLM(config), (1, 16)))
    assert labels(page, "fold") == ["layers.0 · LlamaDecoderLayer · 8 equal modules"]
    assert text_of(page.locator("#graph .heading", has_text="layers.0")).endswith("1 / 8")
    assert page.locator("#graph .edge.long").count() >= 3


def test_a_swin_that_fails_in_the_middle(page_of: PageOf) -> None:
    define_missing_operators()
    models = pytest.importorskip("torchvision.models")
    swin = models.swin_t()
    swin.features[4].reduction = nn.Linear(7, 7)
    page = page_of(failed(swin, 1, 3, 64, 64))
    red = page.locator("#graph .part.failed.here")
    assert red.get_attribute("data-path") == "features.4.reduction"
    assert box(page, "features.3").count() == 1 and box(page, "features.5").count() == 0
