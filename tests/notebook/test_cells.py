"""What a cell shows of an answer: text, and HTML that a notebook without trust keeps whole."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

import fit_builder
import report_builder as build
import torchgauge as tg
from answer_builder import answers
from torchgauge.errors import UsageError
from torchgauge.language import spoken
from torchgauge.render.cells import MOST_ROWS, bundle_of_page, cell_page
from torchgauge.render.formats.cell import DOTS, MOST_OPEN_ROWS, CellFormat
from torchgauge.render.page import (
    Cell,
    Column,
    Facts,
    Notes,
    Page,
    Problem,
    Row,
    Table,
    Tone,
    fact,
    table_of,
)
from torchgauge.render.pages import _PAGES, page_of
from torchgauge.shown import Shown

HOSTILE = "<script>alert(1)</script>\"'&<b onclick=x>"
NEEDS_EXTRAS = {"deploy", "integrations"}
KEPT_TAGS = {
    "br", "details", "div", "li", "pre", "span", "strong", "summary", "table", "tbody", "td", "th",
    "thead", "tr", "ul",
}  # fmt: skip
KEPT_ATTRIBUTES = {"open", "scope", "style", "title"}


def subclasses(kind: type) -> Iterator[type]:
    for below in kind.__subclasses__():
        yield below
        yield from subclasses(below)


def test_every_answer_has_a_page_and_a_line():
    for module in pkgutil.walk_packages(tg.__path__, "torchgauge."):
        if not module.name.endswith("__main__") and not NEEDS_EXTRAS & {*module.name.split(".")}:
            importlib.import_module(module.name)
    shown = {
        f"{kind.__module__}:{kind.__qualname__}": kind
        for kind in subclasses(Shown)
        if kind.__name__ not in ("Headed", "Answer")  # bases
    }
    assert set(shown) - {"torchgauge.facts.trace:Trace"} == set(_PAGES) == set(answers())
    assert [name for name, kind in shown.items() if kind.__str__ is object.__str__] == []
    assert [name for name, kind in shown.items() if kind.__repr__ is not Shown.__repr__] == []


@pytest.mark.parametrize("name", _PAGES)
def test_an_answer_is_one_line_and_a_bundle(name):
    answer = answers()[name]
    line = repr(answer)
    assert line.startswith(f"<{name.partition(':')[2]}: ")
    assert line.endswith(">") and "\n" not in line and 30 < len(line) < 250
    bundle = answer._repr_mimebundle_()
    assert list(bundle) == ["text/plain", "text/html"]
    assert all(len(text) <= 100 or "$ " in text for text in bundle["text/plain"].splitlines())
    assert page_of(answer).title[0] in bundle["text/plain"]
    assert page_of(answer).title[0] in bundle["text/html"]
    check_kept(bundle["text/html"])


LINES = {
    "torchgauge.facts.fit:FitReport": (
        "<FitReport: ResNet, training: does not fit on RTX 3060 12GB, 15.38 GiB needed of "
        "11.76 GiB, largest batch 138 (torchgauge.show prints all)>"
    ),
    "torchgauge.facts.fit:BatchCurve": (
        "<BatchCurve: Net, inference on T4: 970 samples/s at batch 64, the knee of the curve>"
    ),
    "torchgauge.devices.device:Device": "<Device: T4, 14.75 GiB usable, 320 GB/s>",
    "torchgauge.environment.findings:Diagnosis": "<Diagnosis: PyTorch environment: 1 warning>",
    "torchgauge.measure.calibration.run:Calibrated": (
        "<Calibrated: A processor, 4 threads: predictions ± 8 %, kept in cpu.json>"
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_lines(name):
    assert repr(answers()[name]) == LINES[name]


def test_a_trace_shows_its_report():
    from torch import nn

    report = tg.analyze(nn.Linear(8, 4), (8,), mode="training", device="T4")
    assert report.trace is not None
    assert report.trace._repr_mimebundle_() == report._repr_mimebundle_()
    assert repr(report.trace).startswith("<Trace: Linear, training on T4: 1 module, ")


def test_include_and_exclude():
    report = build.transformer(2)
    assert list(report._repr_mimebundle_(include={"text/html"})) == ["text/html"]
    assert list(report._repr_mimebundle_(exclude={"text/html"})) == ["text/plain"]


def test_what_has_no_page_is_refused():
    with pytest.raises(UsageError, match="a dict cannot be shown"):
        page_of({})
    with pytest.raises(UsageError, match="depth, columns and expand are of a report's table"):
        page_of(fit_builder.report(), depth=2)


# ---------------------------------------------------------------------------- HTML


class Reader(HTMLParser):
    """Fails on what an untrusted notebook would remove; collects what is open at a text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, bool]] = []
        """Each text, and whether it is folded."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in KEPT_TAGS, tag
        assert {name for name, _ in attrs} <= KEPT_ATTRIBUTES, attrs
        for name, value in attrs:
            assert name != "style" or "url(" not in (value or "")
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        folded = "details" in self.open and "summary" not in self.open
        self.texts.append((data, folded))


def check_kept(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def folded(html: str) -> dict[str, bool]:
    return dict(check_kept(html).texts)


def test_a_hostile_name_stays_text():
    page = page_of(build.transformer(2, embedding=HOSTILE))
    html = CellFormat().render(page)
    texts = [text for text, _ in check_kept(html).texts]
    assert HOSTILE in texts and "<script" not in html


def test_every_kind_of_block_is_escaped():
    page = Page(
        title=(HOSTILE, HOSTILE), failed=HOSTILE,
        blocks=(
            Facts(facts=(fact(HOSTILE, HOSTILE, tone=Tone.BAD),), heading=HOSTILE),
            Notes(lines=(HOSTILE,), heading=HOSTILE),
            Problem(
                heading=HOSTILE, kind=HOSTILE, text=HOSTILE, entries=((HOSTILE, HOSTILE),),
                commands=(HOSTILE,), alternative=(HOSTILE,),
            ),
            table_of((Column(HOSTILE), Column(HOSTILE)), [(HOSTILE, HOSTILE)] * 40, HOSTILE),
        ),
    )  # fmt: skip
    html = CellFormat().render(page)
    check_kept(html)
    assert "<b " not in html and "<script" not in html
    assert html.count("&lt;script&gt;") > 90


def rows(count: int) -> Table:
    return table_of((Column("Layer", is_number=False), Column("Size")), [("a row", "1")] * count)


def test_a_long_table_is_folded_with_its_legend_and_a_short_one_is_open():
    legend, warning = (
        Notes(lines=("the legend",), calm=1),
        Notes(lines=("x",), heading="Warnings", calm=1),
    )
    for count in (MOST_OPEN_ROWS, MOST_OPEN_ROWS + 1):
        page = Page(title=("Net",), blocks=(rows(count), legend, warning))
        seen = folded(CellFormat().render(page))
        is_folded = count > MOST_OPEN_ROWS
        assert seen["a row"] is is_folded and seen["the legend"] is is_folded
        assert seen["Warnings"] is False
        assert (f"Table, {count} rows: " in seen) is is_folded


def test_details_are_folded_together_and_problems_never():
    page = Page(
        title=("Net",),
        blocks=(
            Problem(heading="fc (Linear)", kind="Failed at", entries=(("error", "bad shape"),)),
            Notes(lines=("assumed",), heading="Assumptions"),
            Facts(facts=(fact("Total", "12"),), heading="Parameters", detail=True),
        ),
    )
    seen = folded(CellFormat().render(page))
    assert seen["bad shape"] is False
    assert seen["assumed"] and seen["12"]
    assert seen["assumptions, parameters"] is False
    assert CellFormat().render(page).count("<details") == 1


def test_details_open_what_is_folded():
    page = page_of(build.transformer(2))
    assert "<details" in CellFormat().render(page)
    assert CellFormat(details=True).render(page).count(" open>") == CellFormat().render(page).count(
        "<details"
    )
    shorter, longer = (bundle_of_page(page, details=d)["text/plain"] for d in (False, True))
    assert "more with" in shorter and "more with" not in longer and len(longer) > len(shorter)


def test_the_bar_of_a_verdict_is_as_long_as_what_is_used():
    html = fit_builder.report()._repr_mimebundle_()["text/html"]
    assert f"width:100.0%;height:7px;background:{DOTS[Tone.BAD]}" in html  # 15.38 of 11.76 GiB
    used = Page(title=("Net",), blocks=(Facts(facts=(shared_fact(0.25),)),))
    assert "width:25.0%;height:7px" in CellFormat().render(used)


def shared_fact(share: float) -> Any:
    from dataclasses import replace

    return replace(fact("Fits", "yes", tone=Tone.GOOD), share=share)


def test_bars_mark_the_heaviest_cells_of_a_column():
    report = build.transformer(2)
    html = report._repr_mimebundle_()["text/html"]
    lengths = [int(number) for number in re.findall(r"transparent (\d+)%", html)]
    assert max(lengths) == 100
    table = next(block for block in page_of(report).blocks if isinstance(block, Table))
    leaves = [row.cells[3].share for row in table.rows]  # Params
    assert sum(leaves) == pytest.approx(1.0)


def test_equal_layers_have_no_bar_and_one_that_stands_out_has():
    def bars(*shares: float) -> list[str]:
        rows = tuple(Row(cells=(Cell(("a",)), Cell(("1",), share=share))) for share in shares)
        table = Table(columns=(Column("Layer"), Column("Size")), rows=rows)
        html = CellFormat().render(Page(title=("Net",), blocks=(table,)))
        return re.findall(r"transparent (\d+%)", html)

    assert bars(1.0) == bars(0.25, 0.25, 0.25, 0.25) == bars(0.0, 0.0) == []
    assert bars(0.1, 0.1, 0.2, 0.6) == ["100%"]
    assert bars(0.4, 0.5, 0.0, 0.05, 0.05) == ["80%", "100%"]


def luminance(color: str) -> float:
    parts = (int(color[index : index + 2], 16) / 255 for index in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("ground", ["#ffffff", "#111111"])
def test_dots_are_seen_in_light_and_dark(ground):
    for tone, color in DOTS.items():
        high, low = sorted((luminance(color), luminance(ground)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3.0, tone  # WCAG 2.2, 1.4.11


def test_no_text_has_a_colour_of_its_own_but_a_dot():
    html = build.transformer(2)._repr_mimebundle_()["text/html"]
    colored = re.findall(r'<(\w+) style="[^"]*(?<!-)color:[^"]*">([^<]*)', html)
    assert {text for _, text in colored} <= {"●"}


def test_a_cell_speaks_chinese_and_keeps_its_bars():
    english = fit_builder.report()._repr_mimebundle_()["text/html"]
    tree = build.transformer(2)._repr_mimebundle_()["text/html"]
    with spoken("zh"):
        chinese = fit_builder.report()._repr_mimebundle_()["text/html"]
        chinese_tree = build.transformer(2)._repr_mimebundle_()["text/html"]
    check_kept(chinese)
    assert "显存" in chinese and "显存" not in english
    assert chinese.count("height:7px") == english.count("height:7px") > 0
    assert chinese_tree.count("linear-gradient") == tree.count("linear-gradient") > 0


def test_html_of_a_report(golden):
    golden(
        "cell_failed.html", build.failed()._repr_mimebundle_()["text/html"].replace("><", ">\n<")
    )


# ---------------------------------------------------------------------------- large models


def table_in(page: Page) -> Table:
    return next(block for block in page.blocks if isinstance(block, Table))


def notes_in(page: Page) -> list[str]:
    return [line for block in page.blocks if isinstance(block, Notes) for line in block.lines]


def nested(blocks: int, layers: int) -> tg.Report:
    """Return a structure whose siblings differ, so that nothing is folded."""
    made = build.Builder("Large").module("", "Large")
    for block in range(blocks):
        made.module(f"{block}", "Block")
        for layer in range(layers):
            size = build.parameter(f"{block}.{layer}.weight", 1 + block, 2 + layer)
            made.module(f"{block}.{layer}", "Linear", parameters=(size,))
    return made.report()


def test_a_large_model_ends_at_the_depth_that_fits():
    report = nested(50, 8)
    page = cell_page(report)
    assert len(table_in(page).rows) == 50
    hint = "modules to depth 1 of 2: torchgauge.show(report, depth=2) shows them all"
    assert hint in notes_in(page)
    assert len(table_in(cell_page(report, depth=2)).rows) == 450
    assert len(table_in(cell_page(report, expand=True)).rows) == 450


def test_a_flat_model_is_cut_and_says_so():
    page = cell_page(nested(MOST_ROWS + 10, 1))
    assert len(table_in(page).rows) == MOST_ROWS
    assert any("the first 200 of 210 rows" in line for line in notes_in(page))


def test_a_model_of_few_rows_is_whole():
    report = nested(10, 3)
    assert cell_page(report) == page_of(report)
