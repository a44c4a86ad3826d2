"""What hooks and forwards store outside of the model: nothing of a run is left there."""

from __future__ import annotations

import contextvars
import functools
import threading
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

import torchgauge as tg
from torchgauge.errors import ModelError

features: dict[Any, Any] = {}
by_layer: defaultdict[str, list[Any]] = defaultdict(list)
ordered: OrderedDict[str, Any] = OrderedDict()
outputs: list[Any] = []
recent: deque[Any] = deque(maxlen=3)
seen: set[Any] = set()
nested: dict[str, Any] = {"deep": {"er": []}}
space = types.SimpleNamespace(output=None)
local = threading.local()
last: Any = None


class Store:
    """A recorder of the user's, and a namespace."""

    shared: ClassVar[list[Any]] = []
    latest: Any = None

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def save(self, value: Any) -> None:
        self.kept.append(value)
        self.newest = value


store = Store()
REAL = torch.ones(3)


def in_dictionary(module: nn.Module, args: Any, output: torch.Tensor) -> None:
    features["layer"] = output.detach()


def by_module(module: nn.Module, args: Any, output: torch.Tensor) -> None:
    features[module] = tuple(output.shape)


def over_what_was_there(module: nn.Module, args: Any, output: torch.Tensor) -> None:
    features["real"] = output


def in_others(module: nn.Module, args: Any, output: torch.Tensor) -> None:
    by_layer["layer"].append((output, args))
    ordered["layer"] = {"output": output}
    outputs.append(output)
    recent.append([output])
    seen.add(output)
    nested["deep"]["er"].append(output)


def in_attributes(module: nn.Module, args: Any, output: torch.Tensor) -> None:
    space.output = local.output = output
    Store.latest = output
    Store.shared.append(output)
    store.save(output)
    in_attributes.output = output  # type: ignore[attr-defined]


def in_a_global(module: nn.Module, args: Any, output: torch.Tensor) -> None:
    global last, fresh
    last = fresh = output


def through_a_helper(module: nn.Module, args: Any, output: torch.Tensor) -> None:
    _helper(output)


def _helper(output: torch.Tensor) -> None:
    outputs.append(lambda: output)


@functools.lru_cache(maxsize=4)
def positions(size: int) -> torch.Tensor:
    return torch.arange(size).float()


@functools.cache
def table(size: int) -> torch.Tensor:
    return torch.ones(size)


def cached(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
    return output + positions(output.shape[-1]) + table(output.shape[-1])


def everything() -> list[Any]:
    """Return all that the hooks above can write to, as plain copies."""
    functions = (in_attributes,)
    return [
        dict(features), dict(by_layer), dict(ordered), list(outputs), list(recent), set(seen),
        nested["deep"]["er"][:], dict(vars(space)), dict(vars(local)), list(Store.shared),
        Store.latest, list(store.kept), sorted(vars(store)), last, "fresh" in globals(),
        [dict(vars(function)) for function in functions],
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def something_there() -> None:
    features.clear()
    features["real"] = REAL


HOOKS = [in_dictionary, by_module, over_what_was_there, in_others, in_attributes, in_a_global,
         through_a_helper]  # fmt: skip
SCENARIOS = [tg.Scenario(), tg.Scenario(mode="training", optimizer="adamw")]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.mode.value)
@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_hooks_leave_nothing_behind(hook: Callable[..., Any], scenario: tg.Scenario) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    model[0].register_forward_hook(hook)
    before = everything()
    report = tg.analyze(model, (2, 8), scenario=scenario)
    assert everything() == before and features["real"] is REAL
    assert any("they were removed again" in text for text in report.warnings)


def test_the_place_is_named() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    model[0].register_forward_hook(in_dictionary)
    assert tg.analyze(model, (2, 8)).warnings == (
        "the model's code stored tensors of the analysed copy outside of the model (features); "
        "they were removed again",
    )


def test_what_is_no_tensor_stays() -> None:
    """A counter that the user keeps counts on; nothing of the run's is in it."""
    model = nn.Sequential(nn.Linear(8, 8))
    model[0].register_forward_hook(lambda m, a, o: features.update(shape=tuple(o.shape)))
    assert tg.analyze(model, (2, 8)).warnings == ()
    assert features["shape"] == (2, 8)


def test_caches_of_functions_are_emptied() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    model[0].register_forward_hook(cached)
    tg.analyze(model, (2, 8))
    assert not positions(8).is_meta and not table(8).is_meta
    model(torch.ones(2, 8))
    tg.analyze(model, (2, 8))  # both know their answer now
    assert positions.cache_info().currsize == table.cache_info().currsize == 1


def test_hooks_of_every_module() -> None:
    kept: list[Any] = []
    handle = register_module_forward_hook(lambda module, args, output: kept.append(output))
    try:
        tg.analyze(nn.Sequential(nn.Linear(8, 8)), (2, 8))
    finally:
        handle.remove()
    assert kept == []


def memoized(forward: Callable[..., Any]) -> Callable[..., Any]:
    cache: dict[str, Any] = {}

    @functools.wraps(forward)
    def inner(self: Any, x: torch.Tensor) -> torch.Tensor:
        cache["x"] = x
        output: torch.Tensor = forward(self, x)
        return output

    inner.cache = cache  # type: ignore[attr-defined]
    return inner


class Storing(nn.Module):
    """Stores in its class, in a default argument and in a decorator's closure."""

    cache: ClassVar[dict[str, Any]] = {}
    latest: Any = None

    def __init__(self, raises: bool = False, branches: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.raises, self.branches = raises, branches

    @memoized
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        self.cache["x"] = x
        type(self).latest = x
        self.remember(x)
        if self.raises:
            raise ValueError("on demand")
        return x + 1 if self.branches and x.sum() > 1e9 else x

    def remember(self, x: torch.Tensor, kept: list[Any] = []) -> None:  # noqa: B006
        kept.append(x)


def stored() -> tuple[Any, ...]:
    return (Storing.cache, Storing.latest, Storing.remember.__defaults__, Storing.forward.cache)  # type: ignore[attr-defined]


def test_forwards_leave_nothing_behind() -> None:
    for scenario in SCENARIOS:
        tg.analyze(Storing(), (2, 8), scenario=scenario)
        assert stored() == ({}, None, ([],), {})


def test_nor_does_a_real_run() -> None:
    assert tg.analyze(Storing(branches=True), (2, 8)).execution == "real"
    assert stored() == ({}, None, ([],), {})
    tg.measure(Storing(), (2, 8), min_repetitions=1, max_seconds=0.1)
    assert stored() == ({}, None, ([],), {})


def test_nor_does_a_failing_one() -> None:
    with pytest.raises(ModelError, match="on demand"):
        tg.analyze(Storing(raises=True), (2, 8))
    assert stored() == ({}, None, ([],), {})


def test_an_object_that_cannot_be_copied() -> None:
    class Locked:
        def __init__(self) -> None:
            self.lock, self.kept = threading.Lock(), [REAL]

        def __reduce__(self) -> Any:
            raise TypeError

    model = nn.Sequential(nn.Linear(8, 8))
    keeper: Any = Locked()
    model.keeper = keeper
    model[0].register_forward_hook(lambda module, args, output: keeper.kept.append(output))
    tg.analyze(model, (2, 8))
    assert len(keeper.kept) == 1 and keeper.kept[0] is REAL


# ------------------------------------------------------------------ where no container is

context: contextvars.ContextVar[Any] = contextvars.ContextVar("context", default=None)
with_items: contextvars.ContextVar[list[Any]] = contextvars.ContextVar("with_items")
objects = np.empty((2, 2), dtype=object)


def into_context(output: torch.Tensor) -> None:
    context.set(output)


def into_what_a_context_holds(output: torch.Tensor) -> None:
    with_items.get().append(output)


def into_array(output: torch.Tensor) -> None:
    objects[1, 0] = [output]


def onto_class_of_torch(output: torch.Tensor) -> None:
    nn.Linear.kept = output  # type: ignore[attr-defined]


def onto_class_by_instance(output: torch.Tensor) -> None:
    setattr(nn.Module, "kept", output)  # noqa: B010


def onto_module_of_torch(output: torch.Tensor) -> None:
    torch.nn.functional.kept = output  # type: ignore[attr-defined]


def onto_library(output: torch.Tensor) -> None:
    np.kept = output  # type: ignore[attr-defined]


class Puts(nn.Module):
    def __init__(self, put: Callable[[torch.Tensor], None]) -> None:
        super().__init__()
        self.layer, self.put = nn.Linear(3, 3), put

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layer(x)
        self.put(output)
        return output


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize(
    "put",
    [
        into_context, into_what_a_context_holds, into_array, onto_class_of_torch,
        onto_class_by_instance, onto_module_of_torch, onto_library,
    ],
)  # fmt: skip
def test_nothing_is_left_where_no_container_is(put: Callable[..., None], real: bool) -> None:
    def decide(output: torch.Tensor) -> None:
        if float(output.sum()) < 1e9:
            put(output)

    items: list[Any] = []
    token = with_items.set(items)
    try:
        report = tg.analyze(Puts(decide if real else put), (2, 3))
    finally:
        with_items.reset(token)
    assert report.execution == ("real" if real else "simulated")
    assert items == []
    assert context.get() is None
    assert all(item is None for item in objects.flat)
    for place in (nn.Linear, nn.Module, torch.nn.functional, np):
        assert not hasattr(place, "kept")
    if put is not into_context:  # which never left the run
        assert any("were removed again" in warning for warning in report.warnings)
