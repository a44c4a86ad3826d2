"""``clever_format`` and coloured printing as ``thop.utils`` has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

COLOR_RED = "91m"
COLOR_GREEN = "92m"
COLOR_YELLOW = "93m"
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K"))


def clever_format(nums: Any, format: str = "%.2f") -> str | tuple[str, ...]:
    """Write one number as text, several as a tuple of texts, in T, G, M, K or B.

    A unit is used above its size, not at it: 1000 is ``"1000.00B"``, as in thop.

    >>> clever_format([4089184256, 1000], "%.3f")
    ('4.089G', '1000.000B')
    """
    is_scalar = not isinstance(nums, Iterable)
    if isinstance(nums, torch.Tensor) and nums.dim() == 0:
        is_scalar = True
    texts = tuple(_text(number, format) for number in ([nums] if is_scalar else nums))
    return texts[0] if len(texts) == 1 else texts


def _text(number: Any, format: str) -> str:
    for size, unit in _UNITS:
        if number > size:
            return f"{format % (number / size)}{unit}"
    return f"{format % number}B"


def colorful_print(fn_print: Callable[..., Any], color: str = COLOR_RED) -> Callable[..., None]:
    """Return a function that calls ``fn_print`` with the terminal's colour set and reset."""

    def actual_call(*args: Any, **kwargs: Any) -> None:
        print(f"\033[{color}", end="")
        fn_print(*args, **kwargs)
        print("\033[00m", end="")

    return actual_call


prRed = colorful_print(print, color=COLOR_RED)
prGreen = colorful_print(print, color=COLOR_GREEN)
prYellow = colorful_print(print, color=COLOR_YELLOW)
