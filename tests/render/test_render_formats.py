"""Markdown, HTML, CSV and LaTeX: hostile names stay text, and the CSV is for machines."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest

import report_builder as build
from torchgauge.errors import UsageError
from torchgauge.render import FORMATS, get_format
from torchgauge.render.page import Data, Fact, Facts, Notes, Page, Problem, Tone
from torchgauge.render.pages.report import report_page

HOSTILE = 'a|b_c*`d`<e>&f%g$h#i{j}~k^l\\m,"n"\'o'


def rendered(name, **options):
    page = report_page(build.transformer(2, embedding=HOSTILE), **options)
    return get_format(name).render(page)


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
    assert table(get_format("csv").render(report_page(report)))[1]["layer"] == f"'{start}cmd()"


IS_ROW = {
    "markdown": lambda line: line.startswith("| "),
    "csv": lambda line: not line.startswith("#"),
    "latex": lambda line: line.endswith(r" \\"),
    "html": lambda line: line.startswith("<thead>") or ' title="' in line,
}


@pytest.mark.parametrize("name", IS_ROW)
def test_depth_columns_and_expand_work_everywhere(name):
    def rows(**options):
        return list(filter(IS_ROW[name], rendered(name, **options).split("\n")))

    # The head, positions, tokens, layers, its two blocks, head.
    cut = rows(depth=2, columns=("params", "calls"), expand=True)
    assert len(cut) == 7
    assert "ctivation" not in cut[0]
    assert len(rows(depth=2)) == 5
    assert len(rows(depth=1)) == 5
    assert len(rows()) == 9


# ---------------------------------------------------------------------------- HTML


class Reader(HTMLParser):
    """Collects the text of an HTML page, and complains of tags that do not match."""

    VOID = ("meta", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.attributes = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def test_html_is_well_formed_and_shows_hostile_names_as_they_are():
    assert HOSTILE in Reader(rendered("html")).text
    for make in build.ALL.values():
        Reader(get_format("html").render(report_page(make())))


def test_html_needs_no_script_and_no_other_file():
    text = rendered("html")
    read = Reader(text)
    assert "<script" not in text and "http" not in text and "url(" not in text
    assert {name for _, name, _ in read.attributes} <= {
        "lang", "charset", "name", "content", "class", "style", "scope", "title",
    }  # fmt: skip
    heads = [(name, value) for tag, name, value in read.attributes if tag == "th"]
    assert sum(name == "scope" for name, _ in heads) == text.count("<th ")


def test_a_name_cannot_leave_its_attribute():
    page = report_page(build.transformer(2, embedding='"><script>alert(1)</script>'))
    text = get_format("html").render(page)
    assert "<script" not in text
    assert Reader(text).text.count('"><script>alert(1)</script>') > 0


# ---------------------------------------------------------------------------- pages


PAGE = Page(
    title=("Thing", "setting"),
    blocks=(
        Facts(facts=(Fact(label="Verdict", segments=("a", "b"), tone=Tone.BAD),)),
        Problem(
            kind="error", heading="no-fuel", text="It has no fuel.", tone=Tone.WARNING,
            entries=(("seen", "gauge at 0"),), commands=("refuel --now",),
            alternative=("walk",),
        ),
        Notes(heading="Warnings", lines=("one", "two", "three"), calm=1),
        Notes(heading="Assumptions", lines=("four",)),
    ),
)  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_writes_every_block(name):
    shown = get_format(name).render(PAGE)
    for text in (
        "Thing", "setting", "Verdict", "no-fuel", "It has no fuel.", "gauge at 0", "refuel --now",
        "walk", "one", "three", "Assumptions", "four",
    ):  # fmt: skip
        assert text in shown, text


def test_the_calm_view_says_what_else_there_is():
    shown = get_format("text", details=False).render(PAGE)
    assert "one" in shown and "two" not in shown and "four" not in shown
    assert "and 2 more with --details" in shown
    assert shown.endswith("more with --details: assumptions (1)")


def test_csv_without_figures_of_its_own_has_the_facts():
    rows = table(get_format("csv").render(PAGE))
    assert rows == [{"what": "Verdict", "value": "a · b"}]
    data = Data(columns=("a", "b"), rows=((1, "=x"), (None, True)))
    page = Page(title=("Thing",), blocks=(data,))
    assert get_format("csv").render(page) == "a,b\n1,'=x\n,1"


# ---------------------------------------------------------------------------- formats of one's own


class Shouting:
    def render(self, page):
        return page.title[0].upper()


class Mute:
    pass


def test_a_format_is_imported():
    place = "import:test_render_formats:Shouting"
    assert get_format(place).render(PAGE) == "THING"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("import:no_such_module:X", "cannot be imported: ModuleNotFoundError: No module named"),
        (
            "import:test_render_formats:Nobody",
            "cannot be imported: AttributeError: module",
        ),
        ("import:test_render_formats", "cannot be imported"),
        ("import::X", "cannot be imported"),
        ("import:test_render_formats:Mute", "has no method render"),
    ],
)
def test_a_format_that_cannot_be_imported_is_refused(place, why):
    with pytest.raises(UsageError, match=why) as caught:
        get_format(place)
    assert "write import:package.module:Class" in str(caught.value)


class Raises:
    def render(self, page):
        raise ValueError("no ink")


class Exits:
    def render(self, page):
        raise SystemExit(0)


class Counts:
    def render(self, page):
        return 5


class Needs:
    def __init__(self, ink):
        self.ink = ink

    def render(self, page):
        return self.ink


MADE = Counts()


@pytest.mark.parametrize(
    ("name", "said"),
    [("Raises", "failed: ValueError: no ink"), ("Exits", "failed: SystemExit: 0"),
     ("Counts", "returned a int"), ("Needs", "failed: TypeError"), ("MADE", "is not a class")],
)  # fmt: skip
def test_what_goes_wrong_in_ones_own_format_is_said_to_be_its(name, said):
    with pytest.raises(UsageError, match=said):
        get_format(f"import:test_render_formats:{name}").render(Page(title=("x",), blocks=()))


def test_a_csv_cell_with_a_hash_is_quoted():
    data = Data(columns=("name", "n"), rows=(("#first", 1), ('b#"x', 2.5), ("plain", None)))
    lines = get_format("csv").render(Page(title=("x",), blocks=(data,))).split("\n")
    assert lines[-3:] == ['"#first",1', '"b#""x",2.5', "plain,"]
