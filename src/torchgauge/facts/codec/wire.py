"""Facts as JSON, by msgspec.

A frozen dataclass is written field by field as it is declared. Where its JSON differs, it says so
in a class variable ``json``, a ``Shape``. From both comes a ``msgspec.Struct``, the *wire type*:
msgspec checks and converts with it, and makes the JSON Schema from it.

Everything in a file is required when it is read, unless the ``Shape`` says otherwise. Fields that
are not known are passed over, so that a later version may add some.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from types import GenericAlias, UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from torchgauge.errors import ReportFormatError, ScenarioError
from torchgauge.facts.codec.damage import Damage, first_damage
from torchgauge.facts.codec.shape import Shape

T = TypeVar("T")


def to_dict(fact: Any) -> dict[str, Any]:
    """Return a fact as plain data, in the order of its JSON.

    Raises:
        ReportFormatError: a field is of a wrong type, so that it could not be read again.
    """
    kind: Any = type(fact)
    try:
        wire = msgspec.convert(fact, wire_type(kind), from_attributes=True)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise ReportFormatError(
            f"the {kind.__name__} cannot be written as JSON: {error}",
            hint="give each field a value of its type",
        ) from error
    return cast("dict[str, Any]", msgspec.to_builtins(wire, enc_hook=_builtin))


def to_json(fact: Any, *, indent: int | None = 2) -> str:
    """Return a fact as strict JSON text."""
    data = to_dict(fact)
    try:
        text = json.dumps(data, indent=indent, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise ReportFormatError(
            f"the {type(fact).__name__} cannot be written as JSON: it holds NaN or infinity",
            hint="JSON has finite numbers alone",
        ) from error
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
        except (msgspec.ValidationError, UnicodeError):  # half a surrogate pair, in a name of ours
            raise first_damage(data, wire) from None
        return cast("T", to_fact(read))
    except Damage as damage:
        raise ReportFormatError(
            f"the file is damaged: {damage}",
            hint="make it again; it is not repaired by guessing",
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
        return value if is_dataclass(value) else _struct_to_fact(value)
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
            given[source if source in kind.__dataclass_fields__ else name] = read(value)
        except Damage as damage:
            raise damage.inside(name) from None
    try:
        return make(**given)
    except ScenarioError as error:
        raise Damage("", f"makes no sense: {error.message}") from error
    except (TypeError, ValueError, UnicodeError) as error:
        raise Damage("", f"makes no sense: {error}") from error


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
