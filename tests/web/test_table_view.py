"""Table: the terminal's columns as a tree that folds, searches, sorts, scrolls and copies."""

from __future__ import annotations

import csv
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

import torchgauge as tg
from page_models import Blocks, Failing, Shared, failed, ten_thousand_modules, trained
from torchgauge.facts.report import Report
from torchgauge.render.tree.columns import COLUMNS, chosen_columns
from torchgauge.render.tree.rows import ModuleTable, TreeOptions

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
PageOf = Callable[..., Any]

LONGEST_TASK_MS = 200
MOST_ROWS_DRAWN = 80


def rows(page: Page) -> list[str]:
    return [str(key) for key in page.locator("#table .grid-body .grid-row").evaluate_all(
        "rows => rows.sort((a, b) => a.dataset.index - b.dataset.index).map(row => row.dataset.key)"
    )]  # fmt: skip


def press(page: Page, name: str) -> None:
    page.locator("#table").get_by_role("button", name=name, exact=True).click()


def choose_all_columns(page: Page) -> list[str]:
    page.locator("#table .menu summary", has_text="Columns").click()
    boxes = page.locator("#table .menu input[type=checkbox]")
    for index in range(boxes.count()):
        boxes.nth(index).check()
    page.keyboard.press("Escape")
    return [str(boxes.nth(index).get_attribute("value")) for index in range(boxes.count())]


def copied(page: Page, what: str) -> str:
    page.evaluate("navigator.clipboard.writeText = async text => { window.copied = text }")
    page.locator("#table .menu summary", has_text="Copy").click()
    press(page, what)
    page.locator("#table .said", has_text=f"copied as {what}").wait_for()
    page.keyboard.press("Escape")
    return str(page.evaluate("window.copied"))


def by_terminal(report: Report, columns: tuple[str, ...]) -> list[list[str]]:
    """Return the figures that the command line writes, as text."""
    data = ModuleTable(report, TreeOptions(columns=columns)).data()

    def written(value: object) -> str:
        if isinstance(value, bool):
            return str(int(value))
        return "" if value is None else str(value)

    return [list(data.columns), *([written(value) for value in row] for row in data.rows)]


def equal_cells(found: str, expected: str) -> bool:
    if found == expected:
        return True
    try:
        return float(found) == pytest.approx(float(expected), rel=1e-4, abs=2e-6)
    except ValueError:
        return False


@pytest.mark.parametrize(
    "make",
    [lambda: trained(Blocks(12)), lambda: failed(Failing()), lambda: tg.analyze(Shared(), (2, 8)),
     lambda: tg.analyze(Blocks())],
    ids=["training", "failed", "shared", "structure"],
)  # fmt: skip
def test_rows_and_figures_are_those_of_the_terminal(
    page_of: PageOf, make: Callable[[], Report]
) -> None:
    report = make()
    page = page_of(report)
    columns = tuple(choose_all_columns(page))
    press(page, "Open all")
    found = list(csv.reader(StringIO(copied(page, "CSV"))))
    expected = by_terminal(report, columns)
    assert [row[0] for row in found] == [row[0] for row in expected]
    wrong = [
        (row[0], name, cell, wanted)
        for row, terminal in zip(found, expected, strict=True)
        for name, cell, wanted in zip(expected[0], row, terminal, strict=True)
        if not equal_cells(cell, wanted)
    ]
    assert wrong == []


def test_it_has_every_column_of_the_terminal(page_of: PageOf) -> None:
    report = trained(Blocks(3))
    page = page_of(report)
    shown = page.locator("#table [role=columnheader] button").evaluate_all(
        "all => all.map(button => button.dataset.column)"
    )
    assert shown == ["name", *(column.name for column in chosen_columns(report, None)), *shown[7:]]
    assert choose_all_columns(page) == list(COLUMNS)


def test_every_figure_is_one_of_the_data(
    page_of: PageOf, data_of: Callable[[Page], dict[str, Any]]
) -> None:
    page = page_of(trained(Blocks(4)))
    own = data_of(page)["answers"][0]["own"]
    paths = [module["path"] for module in data_of(page)["answers"][0]["report"]["modules"]]
    choose_all_columns(page)
    press(page, "Open all")
    cells = page.locator("#table [data-field]").evaluate_all(
        "cells => cells.map(cell => [cell.dataset.field, Number(cell.dataset.value)])"
    )
    assert len(cells) > 40
    for field, value in cells:
        kind, indices, name = field.split(".")
        within = [
            place
            for index in map(int, indices.split(","))
            for place, path in enumerate(paths)
            if place == index or (kind == "modules" and path.startswith(f"{paths[index]}."))
            or (kind == "modules" and not paths[index])
        ]  # fmt: skip
        figures = [own[name][place] for place in within]
        expected = max(figures) if name == "peak_allocated_bytes" else sum(figures)
        assert value == pytest.approx(expected), field


def test_the_tree_folds_and_opens_by_keyboard(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    press(page, "Close all")
    assert rows(page) == ["scale (parameter)", "stem", "blocks.0", "head", " (functional)"]
    page.locator('#table [data-key="blocks.0"]').focus()
    focused = page.locator("#table .grid-row:focus")
    page.keyboard.press("ArrowRight")
    assert focused.get_attribute("aria-expanded") == "true"
    assert rows(page)[3:7] == [
        "blocks.0.norm",
        "blocks.0.up",
        "blocks.0.down",
        "blocks.0 (functional)",
    ]
    page.keyboard.press("ArrowRight")
    assert focused.get_attribute("data-key") == "blocks.0.norm"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert focused.get_attribute("aria-expanded") == "false"
    page.keyboard.press("End")
    assert focused.get_attribute("data-key") == " (functional)"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#table .grid-row.selected").get_attribute("data-key") == "stem"
    assert "stem" in page.locator("footer.selection").inner_text()


def test_equal_layers_can_be_shown_one_by_one(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    press(page, "Close all")
    page.get_by_label("Fold equal layers").uncheck()
    press(page, "Open all")
    assert page.locator("#table .said").inner_text() == "65 of 65 rows"
    page.get_by_label("Search layers and types").fill("blocks.11.up")
    assert rows(page) == ["blocks", "blocks.11", "blocks.11.up"]


def test_search_keeps_what_encloses_a_match(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    page.locator("h1").click()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.keyboard.type("LAYERNORM")
    assert rows(page) == ["blocks.0", "blocks.0.norm"]
    page.get_by_label("Search layers and types").fill("")
    page.locator("#table select").select_option("Linear")
    assert rows(page) == ["stem", "blocks.0", "blocks.0.up", "blocks.0.down", "head"]
    page.get_by_label("Search layers and types").fill("nothing like this")
    assert page.locator("#table .grid-empty").is_visible()


def test_nothing_below_jumps_while_a_search_is_typed(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    before = page.evaluate("document.body.scrollHeight")
    page.get_by_label("Search layers and types").fill("nothing like this")
    page.locator('#operators input[type="search"]').fill("nothing like this")
    assert page.evaluate("document.body.scrollHeight") == before


def test_paper_has_rows_that_the_screen_would_scroll(page_of: PageOf) -> None:
    page = page_of(
        tg.analyze(nn.Sequential(*(nn.Linear(8, 8, bias=bool(i % 2)) for i in range(150))), (1, 8))
    )
    press(page, "Open all")
    assert page.locator("#table .grid-body .grid-row").count() < MOST_ROWS_DRAWN
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#table .grid-body .grid-row").count() == 150
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("#table .grid-body .grid-row").count() < MOST_ROWS_DRAWN


def test_sorting_lists_the_layers_that_sum_to_the_total(page_of: PageOf) -> None:
    report = trained(Blocks(12))
    page = page_of(report)
    press(page, "Close all")
    tree = rows(page)
    header = page.locator("#table [role=columnheader]:has([data-column=params])")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    figures = [
        int(text.replace(",", ""))
        for text in page.locator("#table .grid-body .grid-row > :nth-child(4)").all_inner_texts()
        if text != "–"
    ]
    assert figures == sorted(figures, reverse=True)
    assert sum(figures) == report.totals.params
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "none"
    assert rows(page) == tree


def test_ten_thousand_rows_scroll(page_of: PageOf) -> None:
    page = page_of(tg.analyze(ten_thousand_modules(), (1, 8)))
    page.get_by_label("Fold equal layers").uncheck()
    press(page, "Open all")
    assert page.locator("#table [role=treegrid]").get_attribute("aria-rowcount") == "9942"
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(item["value"] for item in metrics if item["name"] == "TaskDuration"))

    scroll = """place => new Promise(done => {
        const grid = document.querySelector('#table .grid');
        grid.scrollTop = place * grid.scrollHeight;
        requestAnimationFrame(() => requestAnimationFrame(done));
    })"""
    longest = 0.0
    for step in range(30):
        before = spent()
        page.evaluate(scroll, step / 30)
        longest = max(longest, spent() - before)
        assert page.locator("#table .grid-body .grid-row").count() < MOST_ROWS_DRAWN
    # All that the page's thread did in a step: no task of it was longer.
    assert longest * 1000 < LONGEST_TASK_MS
    page.locator(
        "#table .grid-body .grid-row[tabindex='0'], #table .grid-body .grid-row"
    ).first.focus()
    page.keyboard.press("End")
    assert page.locator("#table .grid-row:focus").get_attribute("data-key") == "19.15.9.1"


def test_a_module_selected_elsewhere_scrolls_into_sight(page_of: PageOf) -> None:
    page = page_of(
        tg.analyze(nn.Sequential(*(nn.Linear(8, 8, bias=bool(i % 2)) for i in range(200))), (1, 8))
    )
    press(page, "Open all")
    page.evaluate("location.hash = ''")
    page.locator("#operators").get_by_label("Search operators and modules").fill("150")
    page.locator("#operators .grid-body .grid-row").first.click()
    row = page.locator("#table .grid-row.selected")
    assert row.get_attribute("data-key") == "150"
    inside = """row => {
        const [a, b] = [row.getBoundingClientRect(), row.closest('.grid').getBoundingClientRect()];
        return a.top >= b.top && a.bottom <= b.bottom;
    }"""
    assert row.evaluate(inside)


def test_markdown_and_latex_are_tables_that_set(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    press(page, "Close all")
    lines = copied(page, "Markdown").splitlines()
    assert lines[0].startswith("| Layer | Type | Output shape | Params |")
    assert lines[1].count("---:") == 5
    assert lines[4].startswith("| blocks.0–11 × 12 | Block | \\[2, 8\\] |")
    page.evaluate("delete window.copied")
    text = copied(page, "LaTeX").splitlines()
    assert text[0] == r"\begin{tabular}{lllrrrrr}"
    assert text[-1] == r"\end{tabular}"
    assert r"blocks.0--11 $\times$ 12 & Block & {[}2, 8{]}" in "\n".join(text)
    assert all(line.endswith(r" \\") for line in text if "&" in line)


def test_names_are_text_everywhere(page_of: PageOf) -> None:
    model = nn.Sequential()
    model.add_module("=<b>|$&_" + "x" * 10_000, nn.Linear(8, 2))
    page = page_of(tg.analyze(model, (2, 8)))
    assert page.locator("#table b").count() == 0
    assert copied(page, "CSV").splitlines()[1].startswith("'=<b>|$&_xxx")
    page.evaluate("delete window.copied")
    assert r"=\textless{}b\textgreater{}\textbar{}\$\&\_xxx" in copied(page, "LaTeX")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_speaks_chinese(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(3)), language="zh-CN")
    assert page.locator("#table h2").inner_text() == "表格"
    heads = page.locator("#table [role=columnheader]").all_inner_texts()
    assert heads[:5] == ["层", "类型", "输出形状", "参数量", "乘加次数"]


def test_what_a_reader_arranged_outlives_another_language(page_of: PageOf) -> None:
    page = page_of(trained(Blocks(12)))
    press(page, "Close all")
    page.locator("#graph").get_by_role("button", name="Close all").click()
    choose_all_columns(page)
    page.get_by_role("button", name="切换到中文").click()
    page.locator("#operators h2", has_text="算子").wait_for()
    assert rows(page) == ["scale (parameter)", "stem", "blocks.0", "head", " (functional)"]
    assert page.locator("#table [role=columnheader]").count() == 1 + len(COLUMNS)
    assert page.locator("#graph [data-id]").count() == 6
