"""Frozen dataclasses as structs: the same from outside."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import dataclass
from typing import Any

import pytest

from torchgauge.facts import memory, report, trace
from torchgauge.facts.codec.quick import made_quickly


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    name: str
    sizes: tuple[int, ...] = ()
    note: str | None = None


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    name: str
    sizes: tuple[int, ...] = ()
    note: str | None = None


@pytest.mark.parametrize(
    "given", [{"name": "a"}, {"name": "a", "sizes": (1, 2)}, {"note": "n", "name": "b"}]
)
def test_objects_have_the_same_fields(given: dict[str, Any]) -> None:
    made = Quick(**given)
    assert dataclasses.asdict(made) == dataclasses.asdict(Usual(**given))
    assert repr(made).replace("Quick", "Usual") == repr(Usual(**given))
    assert made == Quick(**given)
    assert hash(made) == hash(Quick(**given))
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made


@pytest.mark.parametrize("wrong", [{}, {"name": "a", "other": 1}])
def test_the_same_arguments_are_refused(wrong: dict[str, Any]) -> None:
    for kind in (Usual, Quick):
        with pytest.raises(TypeError, match=r"name|other"):
            kind(**wrong)


def test_fields_stay() -> None:
    made = Quick(name="a")
    for change in (lambda: setattr(made, "name", "b"), lambda: delattr(made, "name")):
        with pytest.raises(AttributeError):
            change()
    with pytest.raises(AttributeError):
        made.other = "b"  # type: ignore[attr-defined]
    assert dataclasses.replace(made, name="b") == Quick(name="b")


def test_signatures_are_the_same() -> None:
    quick, usual = (inspect.signature(kind).parameters for kind in (Quick, Usual))
    assert {name: (p.kind, p.default) for name, p in quick.items()} == {
        name: (p.kind, p.default) for name, p in usual.items()
    }


@pytest.mark.parametrize(
    "kind",
    [trace.NamedValue, trace.ParameterInfo, trace.ModuleInfo, trace.ModuleCall,
     trace.OpRecord, trace.StorageRecord, trace.StorageEvent, memory.TimelinePoint, report.CallCost,
     report.ModuleReport],
)  # fmt: skip
def test_the_records_have_nothing_that_is_left_out(kind: Any) -> None:
    """No ``__post_init__``, no default that is made anew, no field that is not compared."""
    assert not hasattr(kind, "__post_init__")
    assert all(item.compare for item in dataclasses.fields(kind))
    assert all(item.default_factory is dataclasses.MISSING for item in dataclasses.fields(kind))
