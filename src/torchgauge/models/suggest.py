"""Offer the nearest known names for one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, count: int = 3) -> list[str]:
    """Return up to ``count`` known names close to ``name``, the closest first.

    Case is ignored; a known name that contains ``name`` is close too.

    >>> nearest("resnet5O", ["resnet18", "resnet50", "vgg16"])[0]
    'resnet50'
    """
    names = list(dict.fromkeys(known))
    by_folded = {candidate.lower(): candidate for candidate in reversed(names)}
    found = difflib.get_close_matches(name.lower(), by_folded, n=count, cutoff=0.6)
    found += [key for key in by_folded if name and name.lower() in key and key not in found]
    return [by_folded[key] for key in found[:count]]


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Return ``"did you mean a, b or c?"``, or ``otherwise`` when nothing is close.

    >>> did_you_mean("sumary", ["summary"])
    'did you mean summary?'
    >>> did_you_mean("x", ["summary"], otherwise="see --help")
    'see --help'
    """
    found = nearest(name, known)
    if not found:
        return otherwise
    return f"did you mean {join_or(found)}?"


def join_or(names: Iterable[str]) -> str:
    """Join names as in a sentence.

    >>> join_or(["a", "b", "c"])
    'a, b or c'
    """
    *first, last = list(names)
    return f"{', '.join(first)} or {last}" if first else last
