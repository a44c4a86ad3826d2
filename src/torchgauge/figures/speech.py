"""The words of figures, in the language that is spoken where a font on this machine has its signs.

Without one a drawing would hold empty boxes: then the words stay English, which can be drawn
everywhere. Names of layers and operators, and units, stay in any case.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from torchgauge.language import ENGLISH, current, translated

_FONTS: Final = (
    "Noto Sans CJK SC", "Source Han Sans SC", "Noto Sans SC", "Microsoft YaHei", "PingFang SC",
    "Hiragino Sans GB", "Heiti SC", "SimHei", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "Noto Sans CJK JP", "Droid Sans Fallback", "Arial Unicode MS", "Noto Serif CJK SC",
)  # fmt: skip
"""Fonts with Chinese signs that systems come with, those without serifs first."""


@cache
def _installed() -> str | None:
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return next((name for name in _FONTS if name in there), None)


def own_font() -> str | None:
    """Return the font that the language needs beside the usual one; ``None`` for English."""
    return None if current() == ENGLISH else _installed()


def is_spoken() -> bool:
    """Return whether figures speak the language: English, or one whose signs can be drawn."""
    return current() == ENGLISH or own_font() is not None


def said(text: str) -> str:
    """Return words of ours as a figure writes them."""
    return translated(text) if is_spoken() else text
