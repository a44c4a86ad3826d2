"""Figures leave the caller's matplotlib as it was, and give the same bytes each time."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest
from drawn import Network, saved, texts, trained
from torch import nn

import torchgauge as tg
from torchgauge.errors import MissingExtraError, UsageError
from torchgauge.figures import FIGURES
from torchgauge.figures.files import figure_content


@pytest.mark.parametrize(
    "name, kind", [*((name, "svg") for name in FIGURES), ("memory", "pdf"), ("graph", "png")]
)
def test_two_drawings_are_equal_bytes(name, kind):
    first = saved(getattr(trained().plot, name)(), kind)
    figure = getattr(trained().plot, name)()
    assert saved(figure, kind) == first
    assert saved(figure, kind) == first  # and the same figure once more
    assert b"Date" not in first if kind != "png" else True


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("width", [3.5, 7])
def test_figures_have_the_width_that_was_asked_for(name, width):
    figure = getattr(trained().plot, name)(width=width)
    assert figure.get_size_inches()[0] == width
    assert 0.5 < figure.get_size_inches()[1] <= 9


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("width", [0, -1, 100, float("nan"), "wide", True])
def test_a_width_that_is_none_is_refused(name, width):
    with pytest.raises(UsageError, match=r"a figure cannot be .* inches wide"):
        getattr(trained().plot, name)(width=width)


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_lies_outside(name):
    figure = getattr(trained().plot, name)()
    figure.draw_without_rendering()
    page = figure.bbox
    axes = figure.axes[0]
    unseen = {
        id(tick.label1)
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    for text in figure.findobj(matplotlib.text.Text):
        box = text.get_window_extent()
        if text.get_text() and text.get_visible() and id(text) not in unseen:
            assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1, text.get_text()
            assert page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1, text.get_text()


def test_the_callers_settings_change_nothing_and_stay():
    plain = {name: saved(getattr(trained().plot, name)(), "svg") for name in FIGURES}
    with matplotlib.rc_context(
        {"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path", "text.usetex": False}
    ):
        before = dict(matplotlib.rcParams)
        for name in FIGURES:
            assert saved(getattr(trained().plot, name)(), "svg") == plain[name]
        assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_imported():
    code = (
        "import sys, torch, torchgauge as tg\n"
        "report = tg.analyze(torch.nn.Linear(4, 2), (4,), device='T4')\n"
        "assert 'matplotlib' not in sys.modules\n"
        "assert 'pandas' not in sys.modules\n"
        "[getattr(report.plot, name)() for name in ('memory', 'parameters', 'graph', 'time')]\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_text_is_text_in_pdf_and_svg():
    assert "Live memory (MiB)" in texts(trained().plot.memory())
    pdf = saved(trained().plot.memory(), "pdf")
    assert b"/FontType 42" in pdf or b"/CIDFontType2" in pdf or b"/TrueType" in pdf
    assert b"/Type3" not in pdf


def test_a_file_says_what_it_shows():
    title = "Memory over a step: Network, training, batch 4 on T4"
    assert title in saved(trained().plot.memory(), "svg").decode()


def test_a_notebook_gets_a_picture():
    data, size = trained().plot.memory()._repr_png_()
    assert data.startswith(b"\x89PNG")
    assert size == {"width": 350, "height": 220}


NAMES = (
    "$x_1$ \\frac", "</text><script>alert(1)</script>", "a\x07b\x1b[31m", "\u202eright to left",
    "名字" + "x" * 10_000, "]]> &amp;",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_text(name):
    layer = type(name, (nn.Linear,), {})
    model = type(name, (Network,), {})()
    model.add_module(name.replace(".", "·"), layer(4, 4))
    report = tg.analyze(model, (3, 16, 16), device="T4")
    for figure in FIGURES:
        picture = saved(getattr(report.plot, figure)(), "svg")
        assert not list(ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}script"))
        assert "\u202e" not in picture.decode()
    for figure in ("parameters", "graph"):
        saved(getattr(report.plot, figure)(), "pdf")
        saved(getattr(report.plot, figure)(), "png")


def test_a_dollar_is_a_dollar():
    model = type("$a_1$", (nn.Linear,), {})(4, 4)
    assert "$a_1$" in texts(tg.analyze(model, (4,)).plot.graph())


def test_without_matplotlib_the_hint_has_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    plot = trained().plot
    for name in FIGURES:
        with pytest.raises(MissingExtraError, match="matplotlib is needed to draw figures") as e:
            getattr(plot, name)()
        assert e.value.hint == 'pip install "torchgauge[plot]"'


def test_files_hold_what_their_names_say():
    assert figure_content(trained(), "time", ".svg").startswith(b"<?xml")
    assert figure_content(trained(), "time", ".pdf").startswith(b"%PDF")
    assert figure_content(trained(), "time", ".png").startswith(b"\x89PNG")
    assert figure_content(trained(), "graph", ".dot") == trained().graph("dot")
    assert figure_content(trained(), "graph", ".mmd", 1) == trained().graph("mermaid", depth=1)


def test_plot_names_its_figures():
    listed = re.search(r"Network: (.*)>", repr(trained().plot))
    assert listed and tuple(listed[1].split(", ")) == FIGURES


def test_a_step_that_does_nothing_has_what_can_be_drawn():
    plot = tg.analyze(nn.Identity(), (4,), device="T4").plot
    assert any(text.startswith("peak ") for text in texts(plot.memory()))
    assert "output" in texts(plot.graph())
    with pytest.raises(UsageError, match="the step takes no time to draw"):
        plot.time()
    with pytest.raises(UsageError, match="no operator of the step has FLOPs to draw"):
        plot.roofline()
