"""Nested lists that are no tensor: where the first fault is. Only for the message."""

from __future__ import annotations

from typing import Any

from torchgauge.units import format_number_of


def what_is_irregular(value: Any, name: str) -> str:
    """Return the first fault in nested lists with its place; empty when there is none.

    The shape that all have to keep is that of the first item, the first item in it, and so on.

    >>> what_is_irregular([[1, 2], [3]], "x")
    'x[1] has 1 item, x[0] has 2'
    >>> what_is_irregular([[1, 2], [3, None]], "x")
    'x[1][1] is null'
    """
    return _fault(value, shape_of(value), name, name)


def shape_of(value: Any) -> tuple[int, ...]:
    """Return how many items there are: in all, in the first of them, in its first, and so on.

    >>> shape_of([[1, 2], [3, 4], [5, 6]])
    (3, 2)
    """
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _fault(value: Any, shape: tuple[int, ...], name: str, first: str) -> str:
    """Return the fault in ``value`` called ``name``; ``first`` is the item that set its shape."""
    if not isinstance(value, list):
        if shape:
            return f"{name} is {_kind(value)}, {first} is a list"
        return "" if isinstance(value, (int, float)) else f"{name} is {_kind(value)}"
    if not shape:
        return f"{name} is a list, {first} is a number"
    if len(value) != shape[0]:
        return f"{name} has {format_number_of(len(value), 'item')}, {first} has {shape[0]}"
    for index, item in enumerate(value):
        if fault := _fault(item, shape[1:], f"{name}[{index}]", f"{first}[0]"):
            return fault
    return ""


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a text"
    return "an object" if isinstance(value, dict) else "a number"
