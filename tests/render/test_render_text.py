"""The text renderer: exact goldens, and what must hold at every width."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import report_builder as build
from torchgauge.errors import UsageError
from torchgauge.facts.guess import Guess
from torchgauge.facts.report import ModuleTable
from torchgauge.facts.trace import Failure, NotCounted, Phase
from torchgauge.render import FORMATS, get_format
from torchgauge.render.formats.text import TextFormat
from torchgauge.render.formats.text_table import UNICODE, TextTable
from torchgauge.render.layout import shorten, wrap
from torchgauge.render.page import Cell, Column, Remark, Row, Table, table_of
from torchgauge.render.pages.report import report_page
from torchgauge.render.pages.report_details import missing_formulas
from torchgauge.render.tree.rows import TreeOptions

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


TREE = ("depth", "columns", "expand")


def shown_as(name, report, **options):
    tree = {key: options.pop(key) for key in TREE if key in options}
    return get_format(name, **options).render(report_page(report, **tree))


def text(report, **options):
    return shown_as("text", report, **options)


def squeezed(shown):
    """Undo the wrapping, to look for what was said."""
    return re.sub(r"\s+", " ", shown)


# ---------------------------------------------------------------------------- goldens


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("name", build.ALL)
def test_text(name, width, golden):
    golden(f"{name}_{width}.txt", text(build.ALL[name](), width=width, details=width > 80))


@pytest.mark.parametrize("name", build.ALL)
def test_the_calm_view_answers_in_eight_lines_at_most_and_hides_no_doubt(name):
    report = replace(build.ALL[name](), warnings=("it is hot",), assumptions=(Guess("x is 1"),))
    page = report_page(report)
    assert len(page.blocks[0].facts) <= 8
    shown = text(report, width=80, details=False)
    assert "it is hot" in shown and "x is 1" in shown
    answers = shown.split("\n\n")[1].splitlines()
    assert len(answers) <= 8 and max(map(cell_len, answers)) <= 80
    for gap in missing_formulas(report):
        assert gap.why in squeezed(shown)
    hidden = shown[shown.index("more with --details: ") :]
    for block in page.blocks:
        if block.detail and getattr(block, "heading", ""):
            assert block.heading.lower() in squeezed(hidden), block.heading


@pytest.mark.parametrize("name", ["transformer", "shared", "failed", "chinese"])
def test_text_in_ascii(name, golden):
    shown = text(build.ALL[name](), width=80, ascii=True)
    assert shown.isascii()
    golden(f"{name}_ascii.txt", shown)


def test_text_of_few_columns_at_one_level(golden):
    golden("transformer_depth1.txt", text(build.transformer(), depth=1, width=80))
    columns = ("params", "trainable", "flops", "elementwise", "peak", "calls", "dtype")
    golden("shared_columns.txt", text(build.shared_weights(), width=120, columns=columns))


def test_text_expanded(golden):
    golden("detector_expanded.txt", text(build.detector(), width=100, expand=True))


@pytest.mark.parametrize("name", ["markdown", "csv", "latex", "html"])
@pytest.mark.parametrize("report", ["shared", "failed", "measured", "predicted"])
def test_other_formats(name, report, golden):
    golden(f"{report}.{name}", shown_as(name, build.ALL[report]()))


# ---------------------------------------------------------------------------- every width


def assert_fits(shown, width):
    for line in shown.split("\n"):
        assert cell_len(line) <= width, line
        assert line == line.rstrip(), repr(line)


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("name", build.ALL)
def test_no_line_is_wider_than_the_width(name, ascii_only):
    for width in (*range(40, 130), 200):
        assert_fits(text(build.ALL[name](), width=width, ascii=ascii_only), width)


@given(width=st.integers(40, 200), model=NAMES, note=NAMES, path=NAMES, ascii_only=st.booleans())
def test_no_line_is_wider_than_the_width_whatever_the_names(width, model, note, path, ascii_only):
    path = path.replace(".", "_")
    report = replace(
        build.transformer(2, embedding=path),
        model_name=model,
        warnings=(note, f"{note} {path * 3}"),
        failure=Failure(
            path=path, module_type=note, inputs=(), error_type="E", error=note, phase=Phase.LOSS
        ),
    )
    shown = text(report, width=width, ascii=ascii_only)
    assert_fits(shown, width)
    assert shown.isascii() or not ascii_only
    assert all(line.isprintable() for line in shown.split("\n"))


def test_what_has_no_room_is_said():
    shown = text(build.simple_cnn(), width=40)
    assert "left out at 40 columns: Type, Output shape, Activation" in squeezed(shown)
    assert "left out" not in text(build.simple_cnn(), width=80)


def test_without_a_width_sentences_are_wrapped_at_80_and_nothing_of_the_table_is_cut():
    report = build.transformer(embedding="a_name_that_leaves_no_room_at_a_width_of_80_at_all_" * 2)
    shown = text(report)
    assert "…" not in shown and "left out" not in shown
    assert "…" in text(report, width=80)
    table = shown.split("─\n")
    assert_fits(table[0].rsplit("\n", 2)[0] + table[-1], 80)


LONG = (1234567, 3, 102400, 102400)


def with_long_shapes(report):
    def longer(values):
        return tuple(
            replace(v, tensor=replace(v.tensor, shape=LONG), batch_dims=()) if v.tensor else v
            for v in values
        )

    modules = [
        replace(module, calls=tuple(replace(c, outputs=longer(c.outputs)) for c in module.calls))
        for module in report.modules.values()
    ]
    return replace(report, modules=ModuleTable(tuple(modules)))


@pytest.mark.parametrize("columns", [None, ("type", "output", "params", "dtype", "calls")])
@pytest.mark.parametrize("name", ["transformer", "detector", "shared", "failed"])
def test_names_are_cut_and_shapes_and_figures_never(name, columns):
    """A column that has no room leaves; "[1234…400]" would be a wrong number."""
    report = with_long_shapes(build.ALL[name]())
    whole = text(report, columns=columns)
    assert str(list(LONG)) in whole
    for width in (40, 52, 64, 80, 90, 100, 120):
        shown = text(report, width=width, columns=columns)
        assert_fits(shown, width)
        for line in shown.split("\n"):
            assert not re.search(r"\[[^\]]*…|…[^\[]*\]", line), line


def test_colour_changes_no_character():
    for report in (build.transformer(), build.failed(), build.chinese()):
        plain, colored = text(report), text(report, color=True)
        assert "\x1b[1m" in colored
        assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == plain


def test_the_failing_layer_is_red():
    lines = text(build.failed(), color=True).split("\n")
    assert [line for line in lines if line.startswith("\x1b[1;31m") and "failed here" in line]
    assert not [line for line in lines if line.startswith("\x1b[1;31m") and "MaxPool2d" in line]


# ---------------------------------------------------------------------------- what is said


def test_the_convention_stands_on_the_result_line():
    shown = squeezed(text(build.simple_cnn()))
    assert "1.41 GMACs = 2.83 GFLOPs forward (1 MAC = 2 FLOPs) · all counted" in shown
    assert "401,484,648 · 1.50 GiB · all trainable · 99.98 % in classifier" in shown
    assert "Memory peak 1.52 GiB in forward at features.1 · 98.39 % parameters" in shown
    assert "Input 588.00 KiB Parameters 1.50 GiB Layer outputs 41.35 MiB" in shown
    assert "sum over layers; only some are alive at once" in shown


def test_training_says_backward_step_and_where_the_peak_is():
    shown = squeezed(text(build.transformer(training=True), width=200))
    assert "· training · adamw ·" in shown
    assert "Backward 41.71 MFLOPs as executed Step 62.57 MFLOPs" in shown
    assert "Saved activations 400.00 KiB for the backward" in shown
    assert "peak 5.72 MiB in backward at layers.3.qkv" in shown


def test_a_failure_names_layer_inputs_error_and_what_to_try():
    shown = squeezed(text(build.failed()))
    assert "Failed at features.3 (Conv2d), in forward" in shown
    assert "got input [B, 64, 112, 112] float32" in shown
    assert "error RuntimeError: Given groups=1, weight of size [128, 32, 3, 3]" in shown
    assert "try make in_channels of features.3 equal to the 64 channels" in shown
    assert "├─ 3 Conv2d failed here" in shown
    assert "classifier Linear not reached" in shown
    assert "forward so far" in shown and "peak so far" in shown
    assert "all counted" not in shown


def test_a_cut_table_says_that_the_failure_is_inside():
    assert "failed inside" in text(build.failed(), depth=1)


def test_structure_only_says_that_no_input_was_given():
    shown = squeezed(text(build.structure_only()))
    assert "Not run no input was given; with one (input_size=…, --input-size …)" in shown
    assert "structure only" in shown
    assert "Output shape" not in shown
    assert "MACs =" not in shown
    assert "< 0.01 %" in shown


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "json"])
def test_every_renderer_shows_what_a_reader_must_know(name):
    report = replace(build.shared_weights(), assumptions=("B = 1 was assumed",))
    report = replace(report, failure=replace(build.failed().failure, error="it broke\nhere"))
    shown = shown_as(name, report).replace("\\_", "_").replace("\\(", "(")
    for fact in (
        "mylib.scan, 3 calls: no FLOP formula is known for this operator",
        "unused: Linear was never called; its 72 parameters are counted",
        "decoder.embed is encoder.embed",
        "B = 1 was assumed",
        "the model printed to stdout",
        "1 operator not counted (3 calls)",
        "features.3 (Conv2d), in forward",
        "RuntimeError: it broke",
        "make in_channels of features.3 equal to the 64 channels",
        "Total params",
    ):
        assert fact in squeezed(shown), fact


def test_notes_that_differ_in_a_number_become_one_line():
    report = build.transformer(12)
    gaps = tuple(
        NotCounted(op=f"layers.{index}.norm", calls=0, why="never called") for index in range(12)
    )
    shown = text(replace(report, not_counted=gaps), width=120)
    assert shown.count(": never called") == 12  # listed ones stay as they are
    calls_gone = {
        path: replace(module, calls=()) if path.endswith("norm") else module
        for path, module in report.modules.items()
    }
    modules = type(report.modules)(tuple(calls_gone.values()))
    assert "layers.*.norm (LayerNorm) × 12" in text(replace(report, modules=modules))


def test_control_characters_are_shown_not_sent():
    report = replace(build.single_layer(), warnings=("red \x1b[31m alert\r\n",))
    assert "red \\x1b[31m alert\\r\\n" in text(report)


# ---------------------------------------------------------------------------- options


def test_an_unknown_format_is_refused():
    with pytest.raises(UsageError) as caught:
        get_format("pdf")
    assert str(caught.value) == (
        "there is no format 'pdf'\n"
        "  try: one of text, markdown, html, csv, latex, or import:package.module:Class"
    )


def test_an_option_that_a_format_does_not_have_is_refused():
    with pytest.raises(UsageError) as caught:
        get_format("markdown", width=80)
    assert str(caught.value) == "'width' has no meaning in markdown\n  try: leave it out"
    with pytest.raises(UsageError, match="try: its options are width, ascii, color, details"):
        get_format("text", wide=80)


def test_wrong_options_are_refused_before_anything_is_rendered():
    with pytest.raises(UsageError, match="unknown column 'flips'\n  try: the columns are type, in"):
        TreeOptions(columns=("params", "flips"))
    with pytest.raises(UsageError, match="depth=0 shows nothing\n  try: use 1 or more"):
        TreeOptions(depth=0)


def test_a_narrow_width_is_refused():
    with pytest.raises(UsageError, match="width=39 is too narrow for a table\n  try: use 40"):
        TextFormat(width=39)


# ---------------------------------------------------------------------------- layout


@given(text=NAMES, width=st.integers(1, 40))
def test_shorten_keeps_both_ends_and_the_width(text, width):
    short = shorten(text, width)
    assert cell_len(short) <= width
    assert short == text or "…" in short or width == 1


@given(words=st.lists(st.text("abc词", min_size=1, max_size=50)), width=st.integers(20, 60))
def test_wrap_loses_nothing(words, width):
    lines = list(wrap([" ".join(words)], width, first="> ", indent="  "))
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "").removeprefix(">") == "".join(words)


def fitted(table, width):
    """Return the titles that are shown, and the first row."""
    made = TextTable(table, width, UNICODE)
    return made.titles, next(made.rows())[1][0]


def test_columns_leave_in_the_order_of_what_they_are_worth_and_nothing_is_cut():
    columns = (
        Column(title="Name", is_number=False),
        Column(title="Kind", is_number=False, keep=50, joins_name=True),
        Column(title="Least", keep=10), Column(title="More", keep=60), Column(title="Most"),
    )  # fmt: skip
    remark = Remark("seen twice", "twice")
    cells = tuple(Cell((text,)) for text in ("conv", "Convolution", "12345", "1234", "99.5 MiB"))
    table = Table(columns=columns, rows=(Row(cells=cells, remarks=(remark,)),))
    name = "conv (seen twice)"
    joined = "conv Convolution (seen twice)"
    for width, titles, first in (
        (53, ["Name", "Kind", "Least", "More", "Most"], f"{name}  Convolution  12345"),
        (52, ["Name", "Least", "More", "Most"], f"{joined}  12345  1234  99.5 MiB"),
        (51, ["Name", "Least", "More", "Most"], "conv Convolution (twice)  12345  1234"),
        (46, ["Name", "Kind", "More", "Most"], f"{name}  Convolution  1234  99.5 MiB"),
        (45, ["Name", "More", "Most"], f"{joined}  1234  99.5 MiB"),
        (33, ["Name", "More", "Most"], f"{name}  1234  99.5 MiB"),
        (32, ["Name", "More", "Most"], "conv (twice)  1234  99.5 MiB"),
        (27, ["Name", "Most"], f"{name}  99.5 MiB"),
    ):
        assert fitted(table, width)[0] == titles, width
        assert fitted(table, width)[1].startswith(first), width


def test_sentences_take_the_room_that_is_left_and_go_on_below():
    columns = (Column(title="Change", is_number=False, wraps=True), Column(title="Saves"))
    table = table_of(columns, [("half precision of everything there is", "99.5 MiB")])
    made = TextTable(table, 34, UNICODE)
    assert next(made.rows())[1] == ["half precision of         99.5 MiB", "  everything there is"]
