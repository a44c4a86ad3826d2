"""Markdown, CSV and LaTeX: hostile names stay text, and the CSV is for machines."""

from __future__ import annotations

import csv
import io
import re

import pytest

import report_builder as build
from torchgauge.render import get_renderer

HOSTILE = 'a|b_c*`d`<e>&f%g$h#i{j}~k^l\\m,"n"\'o'


def rendered(name, **options):
    return get_renderer(name, **options).render(build.transformer(2, embedding=HOSTILE))


def table(text):
    lines = [line for line in text.split("\n") if not line.startswith("#")]
    return list(csv.DictReader(io.StringIO("\n".join(lines))))


def test_a_markdown_row_has_as_many_cells_as_the_head():
    rows = [line for line in rendered("markdown").split("\n") if line.startswith("|")]
    bars = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert bars == {7}
    name = HOSTILE.replace("|", "\\|")
    assert f"| ``{name}`` | `Embedding` |" in rendered("markdown")


def test_markdown_outside_of_code_is_escaped():
    note = next(line for line in rendered("markdown").split("\n") if line.startswith("- head"))
    assert "a\\|b\\_c\\*\\`d\\`\\<e\\>\\&f%g\\$h\\#i{j}\\~k^l\\\\m" in note


def test_a_latex_row_has_as_many_cells_as_the_head():
    text = rendered("latex")
    rows = [line for line in text.split("\n") if line.endswith(r" \\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {5}
    escaped = (
        r"a\textbar{}b\_c*`d`\textless{}e\textgreater{}\&f\%g\$h\#i\{j\}\textasciitilde{}k"
        r"\textasciicircum{}l\textbackslash{}m,''n'''o"
    )
    assert escaped in text
    bare = re.sub(r"\\(?:[a-zA-Z]+|.)(?:\{\})?", "", text)
    assert not re.search(r"[%#_~^]", bare.replace("$", ""))


def test_csv_is_read_back_with_raw_numbers():
    rows = table(rendered("csv"))
    assert rows[1]["layer"] == HOSTILE
    assert list(rows[0]) == [
        "layer", "copies", "summed", "type", "output", "params", "forward_macs",
        "activation_bytes", "remarks",
    ]  # fmt: skip
    report = build.transformer(2)
    for column, whole in (
        ("params", report.totals.params),
        ("forward_macs", report.totals.forward_macs),
    ):
        assert sum(int(row[column]) for row in rows if row["summed"] == "1") == whole


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_csv_holds_no_formula(start):
    report = build.transformer(2, embedding=f"{start}cmd()")
    assert table(get_renderer("csv").render(report))[1]["layer"] == f"'{start}cmd()"


IS_ROW = {
    "markdown": lambda line: line.startswith("| "),
    "csv": lambda line: not line.startswith("#"),
    "latex": lambda line: line.endswith(r" \\"),
}


@pytest.mark.parametrize("name", IS_ROW)
def test_depth_columns_and_unfold_work_everywhere(name):
    def rows(**options):
        return list(filter(IS_ROW[name], rendered(name, **options).split("\n")))

    # The head, positions, tokens, layers, its two blocks, head.
    cut = rows(depth=2, columns=("params", "calls"), unfold=True)
    assert len(cut) == 7
    assert "ctivation" not in cut[0]
    assert len(rows(depth=2)) == 5
    assert len(rows(depth=1)) == 5
    assert len(rows()) == 9
