"""Names as text that cannot harm a drawing: no line breaks, no control characters."""

from __future__ import annotations

import unicodedata

_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories of characters without a shape of their own, those that turn text around among them."""


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
