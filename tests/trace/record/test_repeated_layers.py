"""Layers and operators that are noted from an earlier one: the trace is the same without it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import torchgauge as tg
from asked import run_model
from torchgauge.facts.trace import Phase, Trace
from torchgauge.trace.operators.op_facts import facts_of
from torchgauge.trace.operators.repeated import Layer, steps_of
from torchgauge.trace.record.recorder import Recorder
from torchgauge.trace.run import watched


class Calls(nn.Module):
    """Calls one layer several times, as ``call`` does it."""

    def __init__(self, call: Callable[..., torch.Tensor], size: int = 8, times: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(size, size)
        self.call = call
        self.times = times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for index in range(self.times):
            x = self.call(self.layer, x, index)
        return x


SEEN: list[Any] = []
"""What was seen of a run; a list of the module's, because a model is copied with what it holds."""


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    SEEN.clear()
    yield
    SEEN.clear()


class CountsOperators(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        SEEN.append(str(func))
        return func(*args, **(kwargs or {}))


class CountsFunctions(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        SEEN.append(func is nn.functional.linear)
        return func(*args, **(kwargs or {}))


class Negated(torch.Tensor):
    """A tensor whose products are negated, by one more operator."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            out = func(*args, **(kwargs or {}))
            return -out if func is nn.functional.linear else out


def plainly(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return layer(x)


def in_another_dtype(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=index > 0):
        return layer(x)


def with_another_bias(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    if index == 1:
        layer.bias = None
    return layer(x)


def with_gradients(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    with torch.set_grad_enabled(index == 1):
        return layer(x).detach()


def of_another_shape(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    out = layer(x.repeat(index + 1, 1))
    return out[: x.shape[0]]


def with_a_new_weight(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    layer.weight = nn.Parameter(layer.weight * 2)
    return layer(x)


def on_its_own_weight(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return layer(layer.weight)[:2] if index else layer(x.repeat(len(layer.weight) // 2, 1))[:2]


def mapped(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return torch.vmap(layer)(x) if index else layer(x)


def in_inference_mode(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    with torch.inference_mode(index > 0):
        return layer(x).clone()


def of_a_subclass(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    source = x.as_subclass(Negated) if index else x
    return layer(source).as_subclass(torch.Tensor)


def by_keyword(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return layer(input=x)


def in_a_thread(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    found: list[torch.Tensor] = []
    thread = Thread(target=lambda: found.append(layer(layer(x))))
    thread.start()
    thread.join()
    return found[0]


def in_place_between(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return layer(x).relu_()


def of_three_dimensions(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return layer(x.unsqueeze(1).expand(-1, 2, -1))[:, 0]


def transposed(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return layer(x.t().contiguous().t() if index else x)


CALLS = [plainly, in_another_dtype, with_another_bias, with_gradients, of_another_shape,
         with_a_new_weight, on_its_own_weight, mapped, in_inference_mode, of_a_subclass, by_keyword,
         in_a_thread, in_place_between, of_three_dimensions, transposed]  # fmt: skip


def trace_of(model: nn.Module, *, mode: str = "inference", size: Any = (2, 8)) -> Trace:
    return run_model(model, size, as_given=True, scenario=tg.Scenario(mode=mode)).outcome.trace


def run_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every layer and every operator go the long way."""
    monkeypatch.setattr(watched, "repeatable", lambda module: None)
    monkeypatch.setattr(Recorder, "_run_plain", lambda self, func, args: NotImplemented)


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_the_trace_is_that_of_a_run_of_each_layer(
    call: Callable[..., torch.Tensor], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace_of(Calls(call), mode=mode)  # what Python does once only
    quick = [trace_of(Calls(call, size), mode=mode, size=(2, size)) for size in (8, 24)]
    run_each(monkeypatch)
    assert quick == [trace_of(Calls(call, size), mode=mode, size=(2, size)) for size in (8, 24)]


def large() -> nn.Module:
    return nn.Sequential(*(nn.Linear(256, 256) for _ in range(3)))


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_code_line_of_a_large_tensor_is_the_same(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = trace_of(large(), mode=mode, size=(128, 256))
    run_each(monkeypatch)
    assert quick == trace_of(large(), mode=mode, size=(128, 256))


def runs_of(monkeypatch: pytest.MonkeyPatch, model: nn.Module, *, mode: str = "inference") -> int:
    """Return how often ``linear`` really ran."""
    runs = 0
    original = Recorder._run_remembered

    def run(self: Recorder, func: Any, facts: Any, args: Any) -> Any:
        nonlocal runs
        runs += facts.base == "addmm"
        return original(self, func, facts, args)

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "_run_remembered", run)
        trace_of(model, mode=mode)
    return runs


def test_equal_layers_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs_of(monkeypatch, Calls(plainly, times=9)) == 1
    assert runs_of(monkeypatch, nn.Sequential(*(nn.Linear(8, 8) for _ in range(9)))) == 1
    mixed = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 8), nn.Linear(8, 4), nn.Linear(4, 8))
    assert runs_of(monkeypatch, mixed) == 2


def test_layers_with_gradients_run_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs_of(monkeypatch, Calls(plainly, times=5), mode="training") == 5


@pytest.mark.parametrize(
    ("kind", "each"), [(CountsOperators, "aten.addmm.default"), (CountsFunctions, True)]
)
def test_a_mode_of_the_model_sees_every_layer(kind: Any, each: Any) -> None:
    def call(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
        if index == 0:
            return layer(x)
        with kind():
            return layer(x)

    trace_of(Calls(call, times=4))
    assert SEEN.count(each) == 3


def test_a_function_in_the_place_of_pytorchs_runs_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, calls = nn.functional.linear, 0

    def linear(*args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(nn.functional, "linear", linear)
    trace = trace_of(Calls(plainly, times=4))
    assert calls == 4
    assert [call.python_calls for call in trace.calls[1:]] == [0] * 4


def test_a_function_that_a_model_puts_in_the_place_of_pytorchs_runs() -> None:
    original = nn.functional.linear

    def linear(*args: Any, **kwargs: Any) -> torch.Tensor:
        SEEN.append("call")
        return original(*args, **kwargs)

    def call(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
        nn.functional.linear = linear if index > 1 else original
        try:
            return layer(x)
        finally:
            nn.functional.linear = original

    trace_of(Calls(call, times=5))
    assert SEEN == ["call"] * 3


def test_a_forward_in_the_place_of_pytorchs_runs_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, calls = nn.Linear.forward, 0

    def forward(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return original(self, x)

    monkeypatch.setattr(nn.Linear, "forward", forward)
    trace_of(Calls(plainly, times=4))
    assert calls == 4


def note_call(*args: Any) -> None:
    SEEN.append("call")


def test_a_patched_layer_runs_each_time() -> None:
    model = Calls(plainly, times=4)
    original = model.layer.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        note_call()
        return original(x)

    model.layer.forward = forward  # type: ignore[method-assign]
    trace_of(model)
    assert SEEN == ["call"] * 4


def test_hooks_run_each_time() -> None:
    model = Calls(plainly, times=4)
    model.layer.register_forward_hook(note_call)
    model.layer.register_forward_pre_hook(note_call)
    trace_of(model)
    assert SEEN == ["call"] * 8


def test_a_layer_that_fails_after_equal_ones_is_named() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(4, 8))
    failure = trace_of(model).failure
    assert failure is not None
    assert failure.path == "2"


def test_values_that_are_known_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of small known numbers decides how often the layer is called."""

    class Loops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = nn.Linear(2, 1, bias=False)
            nn.init.ones_(self.count.weight)
            self.register_buffer("two", torch.tensor([[1.0, 1.0]]))
            self.layer = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count(x[:, :2].clone())
            for _ in range(int(self.count(self.two).item())):
                x = self.layer(x)
            return x

    quick = trace_of(Loops(), size=(1, 8))
    assert [call.path for call in quick.calls].count("layer") == 2
    run_each(monkeypatch)
    assert quick == trace_of(Loops(), size=(1, 8))


@pytest.mark.parametrize("func", [torch.ops.aten.relu.default, torch.ops.aten.clone.default])
def test_operators_with_laws_of_their_own_are_not_repeated(func: Any) -> None:
    def op(func: Any) -> tuple[Any, ...]:
        return (facts_of(func), (), (), (), 0, Phase.FORWARD, False, [3], [4], ())

    assert steps_of([op(torch.ops.aten.mm.default)], [3], [4]) is not None
    assert steps_of([op(torch.ops.aten.mm.default), op(func)], [3], [4]) is None
    assert steps_of([op(torch.ops.aten.mm.default)], [2], [4]) is None  # of a storage of nobody


def test_an_attribute_that_changes_makes_the_layer_run() -> None:
    layer = Layer(module := nn.Linear(2, 2))
    module.__dict__["forward"] = print
    before = layer.held()
    module.in_features = 3
    assert layer.held() != before
    module.extra = 1  # type: ignore[assignment]
    assert layer.held() is None


def test_hooks_between_the_layers_of_a_sequential_count_as_python_calls() -> None:
    def helper(module: nn.Module, args: Any, output: Any) -> None:
        return None

    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    assert trace_of(model).calls[0].python_calls == 0
    model[0].register_forward_hook(helper)
    assert trace_of(model).calls[0].python_calls == 1


def test_nothing_of_a_run_waits_for_the_collector() -> None:
    copies: list[Any] = []

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            copies.append(weakref.ref(self))
            return self.layer(x)

    for mode in ("inference", "training"):
        gc.collect()
        gc.disable()
        try:
            trace_of(Keeps(), mode=mode)
            assert [copy() for copy in copies] == [None] * len(copies)
        finally:
            gc.enable()
