"""The words of figures: in the language that is spoken, where a font has its signs."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

import page_reports
from torchgauge.figures import labels
from torchgauge.language import spoken

FIGURES = ("memory", "time", "roofline", "parameters")
CHINESE = re.compile("[\u4e00-\u9fff]")


def texts(figure: Any) -> set[str]:
    from matplotlib.text import Text

    return {text.get_text() for text in figure.findobj(Text) if text.get_text()}


def drawn(name: str, language: str) -> Any:
    with spoken(language):
        return getattr(page_reports.trained().plot, name)()


def svg(figure: Any) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="svg")
    return stream.getvalue().decode()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_speaks_chinese(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever font draws it: names of layers, units and the GPU stay."""
    monkeypatch.setattr(labels, "_installed", lambda: "DejaVu Sans Mono")
    english, chinese = drawn(name, "en"), drawn(name, "zh")
    changed = texts(chinese) - texts(english)
    assert changed and all(CHINESE.search(text) for text in changed)
    left = [text for text in texts(chinese) if re.search(r"[a-z]{3,} [a-z]{3,}", text)]
    assert not left
    assert "DejaVu Sans Mono" in svg(chinese), "what is saved later has the font too"
    assert "DejaVu Sans Mono" not in svg(english)


@pytest.mark.parametrize("name", FIGURES)
def test_without_a_font_it_stays_english(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "_installed", lambda: None)
    assert texts(drawn(name, "zh")) == texts(drawn(name, "en"))
    assert svg(drawn(name, "zh")) == svg(drawn(name, "en"))
