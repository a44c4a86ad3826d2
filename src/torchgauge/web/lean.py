"""Plain data in a form that takes a quarter of the room in the page; ``web/src/lean.ts`` undoes it.

A long list is written in another way where that is shorter. Nothing is rounded or left out.

===========================================  =================================================
``{"$": "rows", "keys": …, "of": …}``        objects with the same keys: a list for each key
``{"$": "runs", "of": [value, count, …]}``   values that repeat one after the other
``{"$": "sums", "of": …}``                   integers, each as the difference to the one before
``{"$": "same", "of": …, "at": …}``          each value once, and the number of each in the list
``{"$": "parts", "of": …, "sizes": …}``      lists, one after the other, and their lengths
``{"$": "object", "keys": …, "of": …}``      an object that has the key ``$`` itself
===========================================  =================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import Any, Final

MARK: Final = "$"
FEWEST: Final = 8
"""Entries of a list that is looked at."""
_GAIN: Final = 1.3
"""How much shorter another way has to be."""
_EXACT: Final = 2**53
"""Integers below are exact in JavaScript, and so are their sums."""
_SCALARS: Final = {int, float, str, bool, type(None)}


def lean(value: Any) -> Any:
    """Return plain data in its short form: dicts, lists and tuples, texts, numbers, ``None``."""
    if isinstance(value, dict):
        short = {key: lean(item) for key, item in value.items()}
        if MARK in short:
            return {MARK: "object", "keys": list(short), "of": list(short.values())}
        return short
    return _list(value) if isinstance(value, list | tuple) else value


def _list(values: Sequence[Any]) -> Any:
    if len(values) < FEWEST:
        return [lean(item) for item in values]
    kinds = {type(item) for item in values}
    if kinds <= _SCALARS:
        return _scalars(list(values), kinds)
    if kinds == {dict} and (keys := list(values[0])) and all(list(item) == keys for item in values):
        return {
            MARK: "rows",
            "keys": keys,
            "of": [_list([item[key] for item in values]) for key in keys],
        }
    texts = [json.dumps(item, separators=(",", ":")) for item in values]
    numbers = _numbered(texts)
    if 2 * len(numbers) <= len(values):
        unique = dict(zip(texts, values, strict=True))
        return _same([lean(unique[text]) for text in numbers], [numbers[text] for text in texts])
    if kinds <= {list, tuple}:
        flat = list(chain.from_iterable(values))
        return {MARK: "parts", "of": _list(flat), "sizes": _list([len(item) for item in values])}
    return [lean(item) for item in values]


def _scalars(values: list[Any], kinds: set[type]) -> Any:
    """Return the shortest of the ways to write texts or numbers."""
    texts = list(map(repr, values))  # tells 1, 1.0, True and -0.0 apart
    ways: list[tuple[float, Any]] = [(_length(texts), values)]
    runs = list[Any]()
    shown = list[str]()
    for value, text in zip(values, texts, strict=True):
        if shown and shown[-1] == text:
            runs[-1] += 1
        else:
            runs += (value, 1)
            shown.append(text)
    counts = map(str, runs[1::2])
    ways.append((_GAIN * _length([*shown, *counts]), {MARK: "runs", "of": runs}))
    if kinds == {int} and all(-_EXACT < value < _EXACT for value in values):
        steps = [values[0], *(b - a for a, b in pairwise(values))]
        if len(set(steps)) < len(set(values)):
            short = _scalars(steps, kinds)
            ways.append((_GAIN * len(json.dumps(short)), {MARK: "sums", "of": short}))
    elif str in kinds:
        numbers = _numbered(texts)
        if 4 * len(numbers) <= len(values):
            unique = dict(zip(texts, values, strict=True))
            at = [numbers[text] for text in texts]
            ways.append((0.0, _same([unique[text] for text in numbers], at)))
    return min(ways, key=lambda way: way[0])[1]


def _numbered(texts: Iterable[str]) -> dict[str, int]:
    """Return each text once with its number, in the order of their first places."""
    numbers: dict[str, int] = {}
    for text in texts:
        numbers.setdefault(text, len(numbers))
    return numbers


def _same(unique: list[Any], at: list[int]) -> dict[str, Any]:
    return {MARK: "same", "of": unique, "at": _list(at)}


def _length(texts: Sequence[str]) -> int:
    return sum(map(len, texts)) + len(texts)
