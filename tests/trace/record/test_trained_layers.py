"""Layers that are trained and noted from an equal one: the trace is that of a run of each."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import torchgauge as tg
from asked import run_model
from torchgauge.compat.running import run
from torchgauge.errors import ModelError
from torchgauge.facts.trace import Phase, Trace
from torchgauge.trace.operators.nodes import nodes_of
from torchgauge.trace.record.trained_layers import TrainedLayers
from torchgauge.trace.run.session import Session


class Calls(nn.Module):
    """Calls a layer again and again, as ``call`` does it."""

    def __init__(self, call: Callable[..., torch.Tensor], layer: nn.Module, times: int = 7) -> None:
        super().__init__()
        self.layer = layer
        self.call = call
        self.times = times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for index in range(self.times):
            x = self.call(self.layer, x, index)
        return x


def plainly(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return layer(x)


def added(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return x + layer(x)


def twice(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return layer(x) * layer(x).tanh()


def in_place(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return layer(x).relu_()


def in_place_below(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    y = x.relu()
    z = layer(y)
    if index == 2:
        y.mul_(2)
    return z


def of_three_dimensions(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return layer(x.unsqueeze(1).expand(-1, 2, -1))[:, 0]


def broadcast_after(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return layer(x).sum(0).expand(2, -1)


def in_half_of_them(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return layer(x[: 1 + index % 2].clone()).repeat(2 - index % 2, 1)


def with_a_hook_on_the_output(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    y = layer(x)
    y.register_hook(lambda gradient: gradient * 2)
    return y


def with_a_penalty(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    y = layer(x)
    (slope,) = torch.autograd.grad(y.sum(), x if index else layer.weight, create_graph=True)
    return y + slope.sum()


def with_one_gradient(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    y = layer(x)
    if index:
        (slope,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
        y = y + slope.mean()
    return y


def checkpointed(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return checkpoint(layer, x, use_reentrant=False) if index % 2 else layer(x)


def checkpointed_reentrant(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    return checkpoint(layer, x, use_reentrant=True) if index % 2 else layer(x)


def differentiated_inside(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    class Inside(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, source: torch.Tensor) -> torch.Tensor:
            with torch.enable_grad():
                ctx.source = source.detach().requires_grad_()
                ctx.output = layer(layer(ctx.source))
            return ctx.output.detach()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> Any:
            return torch.autograd.grad(ctx.output, ctx.source, gradient)[0]

    return Inside.apply(layer(x))


def with_another_weight(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    layer.weight = nn.Parameter(layer.weight.detach().clone())
    return layer(x)


def without_gradients(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    with torch.set_grad_enabled(index % 2 == 0):
        return layer(x)


def under_autocast(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=index > 1):
        return layer(x.float()).float()


def with_its_weight_elsewhere(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    y = layer(x)
    return y @ layer.weight if index == 3 else y + layer.bias if index == 1 else y


def with_a_hook_on_the_weight(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
    if index == 4:
        layer.weight.register_hook(lambda gradient: gradient * 2)
    return layer(x)


CALLS = [plainly, added, twice, in_place, in_place_below, of_three_dimensions, broadcast_after,
         in_half_of_them, with_a_hook_on_the_output, with_a_penalty, with_one_gradient,
         checkpointed, checkpointed_reentrant, differentiated_inside, with_another_weight,
         without_gradients, under_autocast, with_its_weight_elsewhere,
         with_a_hook_on_the_weight]  # fmt: skip


def frozen(size: int, name: str) -> nn.Module:
    layer = nn.Linear(size, size)
    getattr(layer, name).requires_grad_(False)
    return layer


def hooked(size: int) -> nn.Module:
    layer = nn.Linear(size, size)
    layer.weight.register_hook(lambda gradient: gradient * 2)
    layer.bias.register_post_accumulate_grad_hook(lambda parameter: None)
    return layer


LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "linear": lambda size: nn.Linear(size, size),
    "without a bias": lambda size: nn.Linear(size, size, bias=False),
    "frozen weight": lambda size: frozen(size, "weight"),
    "frozen bias": lambda size: frozen(size, "bias"),
    "hooked": hooked,
    "flatten": lambda size: nn.Flatten(0, 0),
    "relu": lambda size: nn.ReLU(),
}


def trace_of(model: nn.Module, size: int, **scenario: Any) -> Trace:
    asked = tg.Scenario(mode="training", **scenario)
    return run_model(model, (2, size), as_given=True, scenario=asked).outcome.trace


def run_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every layer run."""

    def run(self: Any, layer: Any, inner: Callable[..., Any], args: Any, *rest: Any) -> Any:
        return inner(*args)

    monkeypatch.setattr(TrainedLayers, "_run_trained_layer", run)


def same_both_ways(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], nn.Module], size: int, **scenario: Any
) -> None:
    trace_of(make(), size, **scenario)  # what Python does once only
    quick = trace_of(make(), size, **scenario)
    run_each(monkeypatch)
    long = trace_of(make(), size, **scenario)
    assert quick.failure == long.failure
    assert quick == long


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_the_trace_is_the_same(
    call: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    same_both_ways(monkeypatch, lambda: Calls(call, nn.Linear(24, 24)), 24)


@pytest.mark.parametrize("call", [plainly, added], ids=lambda call: call.__name__)
@pytest.mark.parametrize("layer", LAYERS)
def test_the_trace_of_other_layers_is_the_same(
    layer: str, call: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(24, 24), Calls(call, LAYERS[layer](24)))

    same_both_ways(monkeypatch, make, 24)


class Tied(nn.Module):
    """Layers that share a weight or a bias, are called a few times each, and may take a leaf."""

    def __init__(self, shared: str, times: tuple[int, ...], *, takes_leaf: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(24, 24) for _ in times)
        self.start = nn.Parameter(torch.zeros(2, 24)) if takes_leaf else None
        self.times = times
        for layer in self.layers[1:]:
            if shared:
                setattr(layer, shared, getattr(self.layers[0], shared))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, times in zip(self.layers, self.times, strict=True):
            y = x if self.start is None else self.start
            for _ in range(times):
                y = layer(y)
            x = x * y
        return x


@pytest.mark.parametrize("takes_leaf", [False, True])
@pytest.mark.parametrize("times", [(2, 1, 1), (1, 4, 6), (5, 5)], ids=str)
@pytest.mark.parametrize("shared", ["", "weight", "bias"])
def test_the_trace_of_shared_leaves_is_the_same(
    shared: str, times: tuple[int, ...], takes_leaf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    same_both_ways(monkeypatch, lambda: Tied(shared, times, takes_leaf=takes_leaf), 24)


SCENARIOS: list[dict[str, Any]] = [
    {"accumulation": 3, "optimizer": "adamw"},
    {"device": "T4", "optimizer": "sgd", "zero_grad": "before-backward"},
    {"device": "H100-SXM", "precision": "bf16-autocast"},
    {"offload_activations": True},
    {"gradient_clipping": True, "first_step": True, "optimizer": "adam"},
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_trace_is_the_same_in_each_scenario(
    scenario: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> nn.Module:
        return nn.Sequential(
            *(nn.Linear(24, 24) for _ in range(4)), Calls(added, nn.Linear(24, 24))
        )

    same_both_ways(monkeypatch, make, 24, **scenario)


stands_in = pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_top_saved_tensors_default_hooks"),
    reason="this release does not say whether hooks take what autograd saves",
)


def sessions_of(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> list[Session]:
    """Return the sessions that it takes to trace a training step."""
    sessions: list[Session] = []
    original = Session.run

    def run(self: Session) -> Any:
        sessions.append(self)
        return original(self)

    with monkeypatch.context() as patched:
        patched.setattr(Session, "run", run)
        trace_of(model, 24)
    return sessions


@stands_in
def test_equal_layers_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    (session,) = sessions_of(monkeypatch, Calls(plainly, nn.Linear(24, 24)))
    assert session.stood_in and not session.gave_up


@stands_in
def test_the_engine_sums_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient of weight and bias per call; the engine adds until it does so in place."""
    trace_of(Calls(plainly, nn.Linear(24, 24)), 24)  # what Python does once only
    run, ran = TrainedLayers._run_sum_of_engine, list[Any]()
    monkeypatch.setattr(
        TrainedLayers, "_run_sum_of_engine", lambda self, args: ran.append(args) or run(self, args)
    )
    trace = trace_of(Calls(plainly, nn.Linear(24, 24), times=20), 24)
    sums = [op for op in trace.ops if "aten.add" in op.name and op.phase is Phase.BACKWARD]
    assert len([op for op in sums if "addmm" not in op.name]) == 2 * 19
    assert len(ran) < 10


@stands_in
@pytest.mark.parametrize("call", [with_a_penalty, with_one_gradient, differentiated_inside])
def test_other_gradients_make_it_run_again(
    call: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sessions_of(monkeypatch, Calls(call, nn.Linear(24, 24)))
    assert first.stood_in and not second.stood_in and not second.gave_up


CALLS_ALONE = {"on_call": None, "forward_only": True, "calls_only": True}


def calls_alone(model: nn.Module) -> Any:
    """Return the calls of a run that notes no operator."""
    return run(model, (2, 24), training=True, **CALLS_ALONE).calls


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_the_calls_alone_are_the_same(
    call: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(24, 24), Calls(call, nn.Linear(24, 24)), nn.BatchNorm1d(24))

    def shown(calls: Any) -> list[Any]:
        return [(call.path, call.inputs, call.outputs, call.completed) for call in calls]

    quick = shown(calls_alone(make()))
    run_each(monkeypatch)
    assert quick == shown(calls_alone(make()))


@stands_in
def test_a_gradient_in_a_run_of_calls_alone_makes_it_run_again() -> None:
    def needs_a_gradient(layer: nn.Module, x: torch.Tensor, index: int) -> torch.Tensor:
        (slope,) = torch.autograd.grad(layer(x).sum(), layer.weight)
        return x @ slope

    calls = calls_alone(Calls(needs_a_gradient, nn.Linear(24, 24), times=3))
    assert len(calls) == 4 and all(call.completed for call in calls)


@stands_in
def test_a_failure_is_told_by_a_run_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = sessions_of(monkeypatch, Calls(in_place_below, nn.Linear(24, 24)))
    assert first.stood_in and not second.stood_in
    with pytest.raises(ModelError, match="modified by an inplace operation"):
        tg.analyze(Calls(in_place_below, nn.Linear(24, 24)), (2, 24), mode="training")


def test_nothing_is_left_of_it() -> None:
    layer = nn.Linear(24, 24)
    model = Calls(plainly, layer)
    gone = weakref.ref(model)
    gc.collect()
    gc.disable()
    try:
        trace_of(model, 24)
        assert layer.weight.grad is None and not vars(layer.weight)
        del model
        assert gone() is None
    finally:
        gc.enable()


def test_nodes_that_keep_their_own_tensors_have_no_stand_in() -> None:
    x, weight = torch.ones(2, 3, requires_grad=True), torch.ones(3, 3, requires_grad=True)
    assert nodes_of(x @ weight, [x, weight]) is not None
    assert nodes_of(x.sigmoid(), [x]) is None  # keeps its result
    assert nodes_of(x @ weight, [x]) is None  # comes from a tensor that is not the layer's
    assert nodes_of(x.unbind(0)[0], [x]) is None  # has two outputs
