"""Facts as JSON and msgpack, by msgspec; knows no type of them.

A frozen dataclass is written field by field as it is declared. Where its JSON differs, it says so
in a class variable ``json``, a ``Shape``. From both comes a ``msgspec.Struct``, the *wire type*:
msgspec checks and converts with it, and makes the JSON Schema from it.

Everything in a file is required when it is read, unless the ``Shape`` says otherwise. Fields that
are not known are passed over, so that a later version may add some.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache, partial
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from torchgauge.errors import ReportFormatError, ScenarioError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the JSON of a type differs from its fields.

    A class that is not made from what its JSON holds has a class method ``from_json`` that is.
    """

    names: tuple[str, ...] = ()
    """Names in the JSON, in order, of fields and properties; all fields by default."""
    more: tuple[str, ...] = ()
    """Properties that are written after ``names``."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """The field or property behind a name, where it is called otherwise."""
    derived: tuple[str, ...] = ()
    """Names that are written and not read; those of ``more`` too."""
    left_out: tuple[str, ...] = ()
    """Names that are not written where their value is the default: ``None`` or empty."""
    later: tuple[str, ...] = ()
    """Names that older files do not have; they are read as the default."""
    types: Mapping[str, Any] = field(default_factory=dict)
    """Types to check for instead of those that are declared."""
    read: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    """What makes a field's value from plain data."""


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


def to_dict(fact: Any) -> dict[str, Any]:
    """Return a fact as plain data, in the order of its JSON."""
    kind: Any = type(fact)
    wire = msgspec.convert(fact, wire_type(kind), from_attributes=True)
    return cast("dict[str, Any]", msgspec.to_builtins(wire, enc_hook=_builtin))


def to_json(fact: Any, *, indent: int | None = 2) -> str:
    """Return a fact as strict JSON text."""
    data = to_dict(fact)
    text = json.dumps(data, indent=indent, allow_nan=False, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair in a name
        return json.dumps(data, indent=indent, allow_nan=False)
    return text


def from_dict(kind: type[T], data: object) -> T:
    """Return the fact that ``to_dict`` made ``data`` from.

    Raises:
        ReportFormatError: a field is missing or of a wrong type; the message names it.
    """
    wire = wire_type(cast("Any", kind))
    try:
        try:
            read = msgspec.convert(data, wire)
        except msgspec.ValidationError:
            raise _damage(data, wire) from None
        return cast("T", to_fact(read))
    except Damage as damage:
        raise ReportFormatError(
            f"the report is damaged: {damage}",
            hint="make the report again; it is not repaired by guessing",
        ) from damage


def schema(kind: type) -> dict[str, Any]:
    """Return the JSON Schema of a fact."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {**dialect, **msgspec.json.schema(wire_type(kind))}


@cache
def wire_type(kind: type, *, is_declared: bool = False) -> type[Struct]:
    """Return the struct that msgspec reads and writes for a dataclass.

    With ``is_declared`` it holds the fields as declared: the ``Shape`` gives types and readers
    alone.
    """
    shape, hints = _shape(kind), get_type_hints(kind, include_extras=True)
    declared = {item.name: item for item in fields(kind)}
    names = tuple(declared) if is_declared else (*(shape.names or declared), *shape.more)
    members: list[Any] = []
    renamed = {}
    for name in names:
        source = name if is_declared else shape.sources.get(name, name)
        hint = shape.types.get(name) or hints.get(source)
        if hint is None:
            hint = get_type_hints(getattr(kind, source).fget)["return"]
        hint = _wired(hint, is_declared)
        default = _default(declared.get(name if name in shape.later else source), hint)
        if is_declared:
            members.append((source, hint) if default is MISSING else (source, hint, default))
        elif name in shape.left_out:
            is_none = default is MISSING or default is None
            members.append((source, hint | None, None) if is_none else (source, hint, default))
        elif name in shape.later:
            members.append((source, hint, msgspec.field(default_factory=partial(_same, default))))
        elif name in shape.derived or name in shape.more:
            members.append((source, hint | UnsetType, UNSET))
        else:
            members.append((source, hint))
        renamed[source] = name
    return msgspec.defstruct(
        kind.__name__,
        members,
        kw_only=True,
        omit_defaults=True,
        rename=renamed,
        namespace={
            "__doc__": (kind.__doc__ or "").partition("\n\n")[0],
            "__fact__": (kind, is_declared),
        },
    )


def to_fact(value: Any) -> Any:
    """Return what a wire value was made from.

    Raises:
        Damage: it makes no sense.
    """
    if isinstance(value, Struct):
        return _struct_to_fact(value)
    if isinstance(value, (list, tuple)):
        made: list[Any] = []
        try:
            for item in value:
                made.append(to_fact(item))
        except Damage as damage:
            raise damage.inside(f"[{len(made)}]") from None
        return tuple(made)
    if isinstance(value, dict):
        return {name: to_fact(item) for name, item in value.items()}
    return value


def _struct_to_fact(wire: Struct) -> Any:
    kind, is_declared = _fact_type(type(wire))
    shape = _shape(kind)
    make = kind if is_declared else getattr(kind, "from_json", kind)
    given = {}
    for name, source in _names_to_read(type(wire)):
        value = getattr(wire, source)
        try:
            read = shape.read.get(source, to_fact)
            given[source if source in kind.__slots__ else name] = read(value)
        except Damage as damage:
            raise damage.inside(name) from None
    try:
        return make(**given)
    except ScenarioError as error:
        raise Damage("", f"makes no sense: {error.message}") from error


@cache
def _names_to_read(wire: type[Struct]) -> tuple[tuple[str, str], ...]:
    shape = _shape(_fact_type(wire)[0])
    passed_over = {*shape.derived, *shape.more}
    return tuple(
        (item.encode_name, item.name)
        for item in msgspec.structs.fields(wire)
        if item.encode_name not in passed_over
    )


def _fact_type(wire: type[Struct]) -> tuple[Any, bool]:
    """Return the type that a wire type was made for, and whether as it is declared."""
    return cast("tuple[Any, bool]", vars(wire)["__fact__"])


def _shape(kind: type) -> Shape:
    return cast("Shape", getattr(kind, "json", Shape()))


@cache
def _is_special(hint: Any) -> bool:
    """Return whether msgspec cannot read a type, or what it holds, as it is declared."""
    if not is_dataclass(hint):
        return any(map(_is_special, get_args(hint)))
    shape = _shape(cast("type", hint))
    return bool(shape.types) or any(map(_is_special, get_type_hints(hint).values()))


def _default(item: Any, hint: Any) -> Any:
    """Return the default of a field or property, a factory where it is a list or an object."""
    if item is not None and item.default is MISSING and item.default_factory is MISSING:
        return MISSING
    if get_origin(hint) in (list, dict):
        return msgspec.field(default_factory=get_origin(hint))
    return MISSING if item is None else item.default


def _same(value: T) -> T:
    return value


def _wired(hint: Any, is_declared: bool) -> Any:
    """Return a type for msgspec: wire types for dataclasses, lists for tuples."""
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        kind = cast("Any", hint)
        is_plain = is_declared and not _is_special(kind)
        return kind if is_plain else wire_type(kind, is_declared=is_declared)
    inner = tuple(_wired(arg, is_declared) for arg in args if arg is not Ellipsis)
    if origin is tuple and Ellipsis in args:
        return GenericAlias(list, inner)
    if origin is tuple and len(set(args)) == 1:
        size = Meta(min_length=len(args), max_length=len(args))
        return Annotated[GenericAlias(list, inner[:1]), size]
    if origin in (tuple, Mapping, dict):
        return GenericAlias(tuple if origin is tuple else dict, inner)
    return Union[inner] if origin in (Union, UnionType) else hint  # noqa: UP007  # made at run time


def _builtin(value: Any) -> Any:
    """Return a text of a class of its own as text."""
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


# ---------------------------------------------------------------------------- damage


_WHAT = {
    int: "is not an integer", float: "is not a number", str: "is not a text",
    bool: "is neither true nor false",
}  # fmt: skip


def _damage(value: Any, hint: Any, place: str = "") -> Damage:
    """Return the first thing that is wrong with a value that msgspec has refused.

    msgspec names the place too, but not the index in a list.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if not isinstance(value, list) or len(value) != args[1].min_length:
            return Damage(place, "is not a pair")
        return _damage(value, args[0], place)
    if origin in (Union, UnionType):
        kinds = [arg for arg in args if arg not in (NoneType, UnsetType)]
        is_text = isinstance(value, str) and len(kinds) > 1
        return _damage(value, kinds[-1 if is_text else 0], place)
    if origin is list:
        if not isinstance(value, list):
            return Damage(place, "is not a list")
        parts = [(item, args[0], f"{place}[{index}]") for index, item in enumerate(value)]
        return _first_damage(parts, place)
    if origin is dict:
        if not isinstance(value, dict):
            return Damage(place, "is not an object")
        keys = [(name, args[0], place) for name in value]
        items = [(item, args[1], f"{place}.{name}") for name, item in value.items()]
        return _first_damage([*keys, *items], place)
    if issubclass(hint, Struct):
        return _damage_of_object(value, hint, place)
    if hint in _WHAT or not isinstance(value, str):
        return Damage(place, _WHAT.get(hint, "is not a text"))
    return Damage(place, f"is {value!r}, which is none of {', '.join(hint)}")


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
    return _first_damage(parts, place)


def _first_damage(parts: list[tuple[Any, Any, str]], place: str) -> Damage:
    return next(_damages(parts), Damage(place, "cannot be read"))


def _damages(parts: list[tuple[Any, Any, str]]) -> Any:
    for value, hint, place in parts:
        try:
            msgspec.convert(value, hint)
        except msgspec.ValidationError:
            yield _damage(value, hint, place)
