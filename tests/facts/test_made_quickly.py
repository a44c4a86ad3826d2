"""Frozen dataclasses with a quicker ``__init__``: the same from outside."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest

from torchgauge.facts import memory, report, trace
from torchgauge.facts.codec.quick import made_quickly


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    name: str
    sizes: tuple[int, ...] = ()
    note: str | None = field(default=None, compare=False)


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    name: str
    sizes: tuple[int, ...] = ()
    note: str | None = field(default=None, compare=False)


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
    with pytest.raises(TypeError) as usual:
        Usual(**wrong)
    with pytest.raises(TypeError) as quick:
        Quick(**wrong)
    assert str(quick.value).replace("Quick", "Usual") == str(usual.value)


def test_fields_stay() -> None:
    made = Quick(name="a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "b"  # type: ignore[misc]
    assert dataclasses.replace(made, name="b") == Quick(name="b")


def test_signatures_are_the_same() -> None:
    assert inspect.signature(Quick) == inspect.signature(Usual)


@pytest.mark.parametrize(
    "kind",
    [trace.TensorSpec, trace.NamedValue, trace.ParameterInfo, trace.ModuleInfo, trace.ModuleCall,
     trace.OpRecord, trace.StorageRecord, trace.StorageEvent, memory.TimelinePoint, report.CallCost,
     report.ModuleReport],
)  # fmt: skip
def test_the_records_have_nothing_that_is_left_out(kind: Any) -> None:
    """No ``__post_init__`` and no default that is made anew: neither is run."""
    assert not hasattr(kind, "__post_init__")
    assert all(item.default_factory is dataclasses.MISSING for item in dataclasses.fields(kind))
