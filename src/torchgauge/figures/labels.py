"""Texts of a drawing: names without what could harm it, and words in the language that is spoken.

Words are translated where a font on this machine has the language's characters. Without one a
drawing would hold empty boxes: then they stay English, which can be drawn everywhere. Names of
layers and operators, and symbols such as GiB and ms, stay in any case.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Final

from torchgauge.language import ENGLISH, current, translated

_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories of characters without a shape of their own, those that turn text around among them."""


_FONTS: Final = (
    "Noto Sans CJK SC", "Source Han Sans SC", "Noto Sans SC", "Microsoft YaHei", "PingFang SC",
    "Hiragino Sans GB", "Heiti SC", "SimHei", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "Noto Sans CJK JP", "Droid Sans Fallback", "Arial Unicode MS", "Noto Serif CJK SC",
)  # fmt: skip
"""Fonts with Chinese characters that systems come with, those without serifs first."""


def plain(name: str) -> str:
    r"""Return a name with what cannot be seen in it written out.

    >>> plain("conv1"), plain("a\nb\u202e")
    ('conv1', 'a\\nb\\u202e')
    """
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _HIDDEN else char
        for char in name
    )


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters, its middle left out where it is longer.

    >>> shortened("features.denseblock4.denselayer16", 20)
    'features.d…nselayer16'
    """
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}…{text[len(text) - half :]}"


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
