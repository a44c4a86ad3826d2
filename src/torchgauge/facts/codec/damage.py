"""What is wrong with a file: which field, and why."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Struct, UnsetType


class Damage(Exception):
    """A value in a file is not what it should be; ``place`` is where, as far as it is known."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place or 'the file'} {what}")
        self.place = place
        self.what = what

    def inside(self, place: str) -> Damage:
        """Return the same damage, seen from the value that holds it."""
        dot = "." if self.place and not self.place.startswith("[") else ""
        return Damage(f"{place}{dot}{self.place}", self.what)


_WHAT = {
    int: "is not an integer", float: "is not a number", str: "is not a string",
    bool: "is neither true nor false",
}  # fmt: skip


def first_damage(value: Any, hint: Any, place: str = "") -> Damage:
    """Return the first thing that is wrong with a value that msgspec has refused.

    msgspec names the place too, but not the index in a list.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return Damage(place, "cannot be read")
    if origin is Literal:
        return Damage(place, f"is not {' or '.join(map(repr, args))}")
    if origin is Annotated:
        if not isinstance(value, list) or len(value) != args[1].min_length:
            return Damage(place, "is not a pair")
        return first_damage(value, args[0], place)
    if origin in (Union, UnionType):
        kinds = [arg for arg in args if arg not in (NoneType, UnsetType)]
        is_text = isinstance(value, str) and len(kinds) > 1
        return first_damage(value, kinds[-1 if is_text else 0], place)
    if origin is list:
        if not isinstance(value, list):
            return Damage(place, "is not a list")
        parts = [(item, args[0], f"{place}[{index}]") for index, item in enumerate(value)]
        return _first_of(parts, place)
    if origin is dict:
        if not isinstance(value, dict):
            return Damage(place, "is not an object")
        keys = [(name, args[0], place) for name in value]
        items = [(item, args[1], f"{place}.{name}") for name, item in value.items()]
        return _first_of([*keys, *items], place)
    if issubclass(hint, Struct):
        return _damage_of_object(value, hint, place)
    if hint in _WHAT or not isinstance(value, str):
        return Damage(place, _WHAT.get(hint, "is not a string"))
    return Damage(place, f"is {value!r}, which is not one of {', '.join(hint)}")


def _damage_of_object(value: Any, hint: type[Struct], place: str) -> Damage:
    if not isinstance(value, dict):
        return Damage(place, "is not an object")
    parts = []
    for item in msgspec.structs.fields(hint):
        name = f"{place}.{item.encode_name}" if place else item.encode_name
        if item.encode_name in value:
            parts.append((value[item.encode_name], item.type, name))
        elif item.required:
            return next(_damages(parts), Damage(name, "is missing"))
    return _first_of(parts, place)


def _first_of(parts: list[tuple[Any, Any, str]], place: str) -> Damage:
    return next(_damages(parts), Damage(place, "cannot be read"))


def _damages(parts: list[tuple[Any, Any, str]]) -> Iterator[Damage]:
    for value, hint, place in parts:
        try:
            msgspec.convert(value, hint)
        except (msgspec.ValidationError, UnicodeError):
            yield first_damage(value, hint, place)
