"""Rows to devices: the same field names in ``devices.csv`` and in a user's TOML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from torchgauge.devices.device import MINIMUM_CAPABILITY, Arithmetic, Device, Kind, rate_field
from torchgauge.devices.usable import derive_usable, memory_class

GIB = 1 << 30
MEASURED = "measured_"
"""How the fields begin that a user's own measurements fill; no shipped row has them."""


class FieldError(ValueError):
    """A field has a value that it cannot have; the message names the field."""


def decode(row: Mapping[str, Any], base: Device | None = None) -> Device:
    """Build a device from a row; ``base`` gives what the row leaves out.

    Raises:
        FieldError: an unknown field, a value that does not fit, or one that is missing.
    """
    values: dict[str, Any] = {}
    capability = row.get("compute_capability")
    lacks = set(base.lacks if base is not None and not capability else ())
    for key, raw in row.items():
        if key not in FIELDS:
            raise FieldError(f"{key}: unknown field; the fields are {', '.join(FIELDS)}")
        if raw is None or raw == "" or raw == []:
            continue
        name, read = FIELDS[key]
        arithmetic = _RATES.get(key)
        if arithmetic is not None:
            lacks.discard(arithmetic)
            if raw is False or raw == "none":
                lacks.add(arithmetic)
                values[name] = None
                continue
        try:
            values[name] = read(raw)
        except (ValueError, TypeError, OverflowError) as error:
            raise FieldError(f"{key}: {error}") from error
    return _complete(values, lacks, base)


def _complete(values: dict[str, Any], lacks: set[Arithmetic], base: Device | None) -> Device:
    inherited = {} if base is None else _fields_of(base)
    stated = set(values)
    merged = {"vendor": "unknown", "kind": Kind.OTHER, **inherited, **values}
    for key in ("name", "memory_gib", "bandwidth_gb_s"):
        if FIELDS[key][0] not in merged:
            raise FieldError(f"{key}: missing, and there is no based_on to take it from")
    derived = set(values.get("derived", set(inherited.get("derived", ())) - stated))
    if "usable_memory_bytes" not in stated and ("memory_bytes" in stated or base is None):
        merged["usable_memory_bytes"] = derive_usable(merged["memory_bytes"], _class_of(merged))
        derived.add("usable_memory_bytes")
    if "compute_capability" in stated:
        lacks |= {
            arithmetic
            for arithmetic, needed in MINIMUM_CAPABILITY.items()
            if merged["compute_capability"] < needed and rate_field(arithmetic) not in stated
        }
    for arithmetic in lacks:
        merged[rate_field(arithmetic)] = None
    merged["derived"] = tuple(sorted(derived))
    merged["lacks"] = tuple(item for item in Arithmetic if item in lacks)
    return Device(**merged)


def _fields_of(base: Device) -> dict[str, Any]:
    """Return what a device based on another takes over: all but names and measurements."""
    found = {
        field.name: getattr(base, field.name)
        for field in dataclasses.fields(base)
        if field.name not in ("name", "aliases", "lacks") and not field.name.startswith(MEASURED)
    }
    found["sources"] = (f"based on {base.name}", *base.sources)
    return found


def _class_of(merged: Mapping[str, Any]) -> Any:
    return memory_class(
        vendor=merged["vendor"],
        kind=merged["kind"],
        memory_type=merged.get("memory_type", ""),
        unified=merged.get("unified_memory", False),
    )


# ---------------------------------------------------------------------------- values


def _number(raw: Any, factor: float = 1.0) -> float:
    if isinstance(raw, bool):
        raise ValueError(f"{raw!r} is not a number")
    try:
        value = float(raw) * factor
    except (ValueError, TypeError):
        raise ValueError(f"{raw!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise ValueError(f"{raw!r} is not a number above 0")
    return value


def _scaled(factor: float) -> Callable[[Any], float]:
    return lambda raw: _number(raw, factor)


def _whole(factor: int = 1) -> Callable[[Any], int]:
    return lambda raw: max(round(_number(raw, factor)), 1)


def _text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError(f"{raw!r} is not text")
    return raw.strip()


def _texts(raw: Any) -> tuple[str, ...]:
    items = [item for item in raw.split(";") if item.strip()] if isinstance(raw, str) else raw
    if not isinstance(items, list):
        raise ValueError(f"{raw!r} is not a list of text")
    return tuple(_text(item) for item in items)


def _kind(raw: Any) -> Kind:
    try:
        return Kind(raw)
    except ValueError:
        raise ValueError(f"{raw!r} is not one of {', '.join(Kind)}") from None


def _capability(raw: Any) -> tuple[int, int]:
    major, dot, minor = str(raw).partition(".")
    if not (major.isdigit() and minor.isdigit() and dot):
        raise ValueError(f"{raw!r} is not a compute capability; write 8.6")
    return int(major), int(minor)


def _truth(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    if raw not in ("yes", "no"):
        raise ValueError(f"{raw!r} is neither true nor false")
    return bool(raw == "yes")


def _date(raw: Any) -> date:
    return raw if isinstance(raw, date) else date.fromisoformat(raw)


_RATES = {f"{item}_{'tops' if item is Arithmetic.INT8 else 'tflops'}": item for item in Arithmetic}

FIELDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "name": ("name", _text),
    "aliases": ("aliases", _texts),
    "vendor": ("vendor", _text),
    "kind": ("kind", _kind),
    "architecture": ("architecture", _text),
    "memory_gib": ("memory_bytes", _whole(GIB)),
    "usable_memory_bytes": ("usable_memory_bytes", _whole()),
    "memory_type": ("memory_type", _text),
    "bandwidth_gb_s": ("bandwidth_bytes_per_second", _scaled(1e9)),
    "compute_capability": ("compute_capability", _capability),
    "sm_count": ("sm_count", _whole()),
    "boost_mhz": ("boost_clock_hz", _scaled(1e6)),
    "l2_mib": ("l2_bytes", _whole(1 << 20)),
    **{key: (rate_field(arithmetic), _scaled(1e12)) for key, arithmetic in _RATES.items()},
    **{
        f"{MEASURED}{item}_tflops": (f"{MEASURED}{rate_field(item)}", _scaled(1e12))
        for item in (Arithmetic.FP32, Arithmetic.FP16, Arithmetic.BF16)
    },
    f"{MEASURED}bandwidth_gb_s": (f"{MEASURED}bandwidth_bytes_per_second", _scaled(1e9)),
    "derived": ("derived", _texts),
    "tdp_watts": ("tdp_watts", _scaled(1.0)),
    "unified_memory": ("unified_memory", _truth),
    "released": ("released", _date),
    "sources": ("sources", _texts),
    "read_on": ("read_on", _date),
}
"""Name in the file → name in ``Device`` and the reader of its value."""
