"""Frozen dataclasses that are made by the thousand."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, TypeVar, cast

import msgspec

Kind = TypeVar("Kind")

_REPLACED = frozenset(
    ("__dict__", "__weakref__", "__slots__", "__init__", "__repr__", "__eq__", "__hash__",
     "__setattr__", "__delattr__", "__getstate__", "__setstate__", "__replace__",
     "__match_args__", "__annotations__", "__annotate__", "__annotate_func__",
     "__annotations_cache__", "__module__", "__qualname__")
)  # fmt: skip
"""What a dataclass with slots has and a struct has in its own way."""


def made_quickly(kind: type[Kind]) -> type[Kind]:
    """Return a frozen, keyword-only dataclass as a ``msgspec.Struct``, made in a tenth of the time.

    The ``__init__`` of ``dataclasses`` sets each field by a call; that of a struct is written in C.
    ``dataclasses`` knows the struct by its fields: ``fields``, ``replace`` and ``asdict`` take it.

    Assumes: no ``__post_init__``, no default factory, all fields compared.
    """
    items = fields(cast("Any", kind))
    names = {item.name for item in items}
    kept = {
        name: value
        for name, value in vars(kind).items()
        if name not in _REPLACED and name not in names
    }
    made: Any = msgspec.defstruct(
        kind.__name__,
        [
            (item.name, item.type) if item.default is MISSING
            else (item.name, item.type, item.default)
            for item in items
        ],
        frozen=True,
        kw_only=True,
        gc=False,
        module=kind.__module__,
        namespace=kept,
    )  # fmt: skip
    return cast("type[Kind]", made)


def with_changes(one: Kind, **changes: Any) -> Kind:
    """Return what ``dataclasses.replace`` does for one that is made quickly, in less time."""
    return cast("Kind", msgspec.structs.replace(cast("Any", one), **changes))
