"""What a type says of its JSON. Imports no msgspec, so that a scenario is there quickly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


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
