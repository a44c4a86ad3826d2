"""Pages in Chinese: nothing of the program stays English, and no line is too wide."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len
from test_answers import DEVICES, DIAGNOSIS
from test_gpu_report import on_a_gpu

import fit_builder
import report_builder as build
from torchgauge.environment.page import doctor_page
from torchgauge.language import joined, spoken
from torchgauge.render import get_format
from torchgauge.render.formats.text import TextFormat
from torchgauge.render.layout import wrap
from torchgauge.render.page import Column, Facts, Page, Problem, Table, fact, table_of
from torchgauge.render.pages.devices import devices_page
from torchgauge.render.pages.fit import fit_page
from torchgauge.render.pages.report import report_page
from torchgauge.render.translation import in_language

PAGES = {
    "devices": lambda: devices_page(DEVICES),
    "doctor": lambda: doctor_page(DIAGNOSIS),
    "failed": lambda: report_page(build.failed()),
    "fit_close": lambda: fit_page(fit_builder.close()),
    "fit_generation": lambda: fit_page(fit_builder.generation()),
    "fit_many": lambda: fit_page(fit_builder.many()),
    "gpu": lambda: report_page(on_a_gpu(build.transformer(training=True))),
    "measured": lambda: report_page(build.measured()),
    "predicted": lambda: report_page(build.predicted()),
    "structure": lambda: report_page(build.structure_only()),
}
_NOT_OURS = re.compile(
    r"the model printed to stdout|B = 1 was assumed|no FLOP formula is known for this operator"
    r"|import torchvision|channels, but got 64 channels instead"
    r"|(RuntimeError|OutOfMemoryError): .*|\$ .*|never called|step call \d"
    r"|make in_channels of features.3 equal to the 64 channels that features.2 returns"
    r"|the size .* was read without a batch dimension: Conv2d takes 4"
    r"|Install the torchvision of this torch, or remove it if nothing needs it"
    r"|data loaders with workers stop when it .*"
)
"""Texts that the builders of these tests invented, and what other programs say."""


def chinese(page: Page, name: str = "text", **options: object) -> str:
    with spoken("zh"):
        text: str = get_format(name, **options).render(page)
    return text


@pytest.mark.parametrize("name", sorted(PAGES))
def test_nothing_of_ours_is_english(name):
    text = _NOT_OURS.sub("", chinese(PAGES[name](), width=4000))
    left = re.findall(r"(?<![\w./=:-])[a-z]{2,}(?: [a-z]{2,})+(?![\w./=(])", text)
    assert not left


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("name", sorted(PAGES))
def test_no_line_is_wider_than_the_terminal(name, width):
    text = chinese(PAGES[name](), width=width)
    assert [line for line in text.splitlines() if cell_len(line) > width and "$ " not in line] == []


@pytest.mark.parametrize("format", ["markdown", "html", "latex"])
def test_every_format_is_translated(format):
    text = chinese(PAGES["doctor"](), format)
    assert "PyTorch 环境" in text
    assert "驱动" in text
    assert "Verdict" not in text


def test_csv_is_for_programs():
    page = PAGES["fit_many"]()
    assert chinese(page, "csv") == get_format("csv").render(page)


def test_english_pages_are_not_touched():
    page = PAGES["gpu"]()
    assert in_language(page) is page


def test_names_commands_and_quotations_stay():
    page = Page(
        title=("Module", "inference"),
        blocks=(
            table_of(
                (Column("Layer", is_number=False, is_code=True), Column("Time")),
                [("time", "none")],
            ),
            Problem(
                heading="memory", kind="error", commands=("print memory",),
                entries=(("error", "not called"), ("try", "not called")),
            ),
            Facts(facts=(fact("Memory", "not called"),)),
        ),
    )  # fmt: skip
    with spoken("zh"):
        made = in_language(page)
    table, problem, facts = made.blocks
    assert made.title == ("Module", "推理")
    assert [cell.full for cell in table.rows[0].cells] == ["time", "无"]
    assert problem.commands == ("print memory",)
    assert problem.entries == (("错误", "not called"), ("建议", "未调用"))
    assert facts.facts[0].label == "内存"


def test_a_line_of_chinese_ends_between_characters_but_not_before_a_mark():
    text = "装得下（已用 12.25 MiB），没有碎片。"
    assert list(wrap((text,), 16)) == ["装得下（已用", "12.25 MiB），没", "有碎片。"]
    assert next(wrap((text,), 8)) == "装得下"  # not: 装得下（
    assert all(cell_len(line) <= 10 for line in wrap((text,), 10, indent="  "))


@pytest.mark.parametrize("name", ["devices", "fit_many", "gpu", "predicted"])
def test_columns_that_are_left_out_are_named_as_they_are_called(name):
    """Titles that are Chinese already are not looked at as a text once more."""
    page, found = PAGES[name](), 0
    with spoken("zh"):
        tables = [block for block in in_language(page).blocks if isinstance(block, Table)]
        titles = {column.title for table in tables for column in table.columns}
        for width in range(40, 90, 2):
            text = TextFormat(width=width).render(page).replace("\n   ", "")
            for line in re.findall(r"列宽时省略：(.*)", text):
                assert set(line.split("，")) <= titles
                found += 1
    assert found


def test_a_list_in_the_language_has_its_comma():
    with spoken("zh"):
        assert joined(["参数量", "类型", "MACs"]) == "参数量，类型，MACs"
    assert joined(["Params", "MACs"]) == "Params, MACs"
