"""matplotlib figures that look the same everywhere and change nothing of the caller's.

No pyplot: its state, its windows and ``rcParams`` stay as they are. This module imports matplotlib
and is itself imported when a figure is drawn.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path

from torchgauge.errors import UsageError
from torchgauge.figures.labels import own_font
from torchgauge.figures.palette import DIM, LINE, TEXT

SIZE, SMALL = 7.0, 6.0
"""Points: what papers print their captions' details in."""
NARROWEST, WIDEST = 2.0, 40.0
_DOTS_PER_INCH = 300
_STYLE: Any = {
    "font.family": "sans-serif",
    # Verdana has the widths of DejaVu Sans, which comes with matplotlib and few readers have.
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica", "sans-serif"],
    "font.size": SIZE,
    "axes.labelsize": SIZE,
    "axes.titlesize": SIZE,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "xtick.color": DIM,
    "ytick.color": DIM,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "axes.edgecolor": DIM,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.4,
    "hatch.linewidth": 0.4,
    "legend.frameon": False,
    "legend.handlelength": 1.0,
    "legend.handleheight": 0.8,
    "legend.columnspacing": 1.0,
    "legend.handletextpad": 0.5,
    "legend.borderpad": 0.0,
    "legend.borderaxespad": 0.0,
    "lines.linewidth": 1.0,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.fonttype": "none",  # text stays text: it can be searched and set in the paper's font
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
    "svg.hashsalt": "torchgauge",  # else the ids are drawn at random
    "savefig.dpi": _DOTS_PER_INCH,
    "figure.dpi": 100,
}
_UNDATED = {
    "svg": {"Date": None},
    "svgz": {"Date": None},
    "pdf": {"CreationDate": None, "ModDate": None},
    "png": {"Software": None},
}


@contextmanager
def own_style(font: str | None = None) -> Iterator[None]:
    """Draw in the style of the figures, whatever the caller's is; ``font`` has further signs."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The vector formats keep a character that the font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        font = font or own_font()
        if font is not None:
            # Of a family such as sans-serif one font is taken: a further one is named beside it.
            matplotlib.rcParams["font.family"] = [_STYLE["font.family"], font]
        yield


class PaperFigure(Figure):
    """A figure whose files hold no date, and text as text."""

    about: str = ""
    """What it shows, for the title that a file carries."""
    font: str | None = None
    """What it was drawn with beside the usual font: its file is saved in any language."""

    def savefig(self, fname: Any, *, transparent: bool | None = None, **options: Any) -> None:
        """Write the figure; the arguments are those of ``matplotlib.figure.Figure.savefig``."""
        kind = options.get("format") or _kind(fname)
        known = _UNDATED.get(kind, {})
        titled = {"Title": self.about} if known and self.about else {}
        metadata = {**known, **titled, **(options.get("metadata") or {})}
        if metadata:
            options["metadata"] = metadata
        with own_style(self.font):
            super().savefig(fname, transparent=transparent, **options)

    def draw(self, renderer: Any) -> None:
        """Draw the figure."""
        with own_style(self.font):
            super().draw(renderer)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Show the figure in a notebook that has not imported pyplot."""
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=2 * self.dpi)
        inches = self.get_size_inches()
        width, height = (round(float(length) * self.dpi) for length in inches)
        return stream.getvalue(), {"width": width, "height": height}


def paper_figure(width: float, height: float, about: str) -> tuple[PaperFigure, Axes]:
    """Return an empty figure of so many inches, and its axes.

    Raises:
        UsageError: for a width that is no width of a page.
    """
    check_width(width)
    engine = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.03)
    figure = PaperFigure(figsize=(width, height), layout=engine)
    figure.about, figure.font = about, own_font()
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def settle(figure: Figure) -> None:
    """Give everything its place now, so that the figure is the same however often it is saved."""
    for _ in range(2):  # the second pass knows how large the texts of the first are
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def page_figure(width: float, height: float, about: str) -> tuple[PaperFigure, Axes]:
    """Return an empty figure whose axes are the whole of it, and not seen."""
    figure = PaperFigure(figsize=(width, height))
    figure.about, figure.font = about, own_font()
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    return figure, axes


def text_inches(text: str, points: float) -> float:
    """Return how wide a text is in the style of the figures, which has to be on."""
    if not text:
        return 0.0
    font = FontProperties(size=points)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


def check_width(width: float) -> None:
    """Refuse a width that is no width of a page.

    Raises:
        UsageError: it is too small or too large, or not a number.
    """
    is_number = isinstance(width, int | float) and not isinstance(width, bool)
    if not is_number or not NARROWEST <= width <= WIDEST:
        raise UsageError(
            f"a figure cannot be {width!r} inches wide",
            hint="3.5 is one column of a paper, 7 two",
        )


def _kind(name: Any) -> str:
    if isinstance(name, str | os.PathLike):
        suffix = os.path.splitext(os.fspath(name))[1]
        return str(suffix).removeprefix(".").lower()
    return "png"
