"""Hooks on parameters run on the copy: optimizers in the backward, gradients that are let go."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

import torchgauge as tg
from real_step import memory_profile
from torchgauge.errors import ModelError
from torchgauge.trace.torch_internals.profiler import memory_changes

TRAINING = tg.Scenario(mode="training", optimizer="none")
X = torch.ones(64, 256)
OPTIMIZERS: dict[Any, torch.optim.Optimizer] = {}
NORMS: list[Any] = []
KEPT: list[Any] = []
calls = 0


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for kept in (OPTIMIZERS, NORMS, KEPT, Stepper.optimizers):
        kept.clear()


def network() -> nn.Sequential:
    layers = [layer for _ in range(4) for layer in (nn.Linear(256, 256), nn.GELU())]
    return nn.Sequential(*layers)


def adam(parameter: torch.Tensor) -> torch.optim.Optimizer:
    return torch.optim.Adam([parameter], foreach=False)


def on_each(model: nn.Module, hook: Callable[..., Any]) -> None:
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(hook)


def step_of_global(parameter: torch.Tensor) -> None:
    OPTIMIZERS[parameter].step()
    OPTIMIZERS[parameter].zero_grad()


def in_global(model: nn.Module) -> None:
    OPTIMIZERS.update({parameter: adam(parameter) for parameter in model.parameters()})
    on_each(model, step_of_global)


def in_closure(model: nn.Module) -> None:
    own = {parameter: adam(parameter) for parameter in model.parameters()}

    def step(parameter: torch.Tensor) -> None:
        own[parameter].step()
        own[parameter].zero_grad()

    on_each(model, step)


class Stepper:
    """Finds the optimizers by the identity of the parameters, in its class."""

    optimizers: dict[int, torch.optim.Optimizer] = {}  # noqa: RUF012

    def __init__(self, model: nn.Module) -> None:
        self.lock = threading.Lock()  # cannot be copied
        self.optimizers.update({id(p): adam(p) for p in model.parameters()})

    def __call__(self, parameter: torch.Tensor) -> None:
        self.optimizers[id(parameter)].step()
        parameter.grad = None


def in_class(model: nn.Module) -> None:
    on_each(model, Stepper(model))


def in_method(model: nn.Module) -> None:
    on_each(model, Stepper(model).__call__)


def step_one(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> None:
    optimizer.step()
    optimizer.zero_grad()


def in_partial(model: nn.Module) -> None:
    for parameter in model.parameters():
        hook = functools.partial(step_one, adam(parameter))
        parameter.register_post_accumulate_grad_hook(hook)


def in_weak_dictionary(model: nn.Module) -> None:
    own = WeakTensorKeyDictionary()
    for parameter in model.parameters():
        own[parameter] = adam(parameter)

    def step(parameter: torch.Tensor) -> None:
        own[parameter].step()
        parameter.grad = None

    on_each(model, step)


def of_torch(model: nn.Module) -> None:
    from torch.distributed.optim import _apply_optimizer_in_backward

    options = {"lr": 0.1, "foreach": False}
    _apply_optimizer_in_backward(torch.optim.Adam, model.parameters(), options)


def freed(model: nn.Module) -> None:
    on_each(model, lambda parameter: setattr(parameter, "grad", None))


class Lomo(torch.optim.Optimizer):
    """Updates in hooks on tensors, one gradient late, and keeps the model beside its groups."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.rate = model, 0.1
        super().__init__(model.parameters(), {"lr": self.rate})
        for parameter in model.parameters():
            parameter.register_hook(self.fuse)

    @torch.no_grad()
    def fuse(self, gradient: torch.Tensor) -> torch.Tensor:
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.data.add_(parameter.grad, alpha=-self.rate)
                parameter.grad = None
        return gradient


def lomo(model: nn.Module) -> None:
    KEPT.append(Lomo(model))


def on_nodes(model: nn.Module) -> None:
    for parameter in model.parameters():
        node = parameter.view_as(parameter).grad_fn.next_functions[0][0]  # type: ignore[union-attr]
        node.register_hook(lambda *_, parameter=parameter: setattr(parameter, "grad", None))
        KEPT.extend((node, parameter.sum()))  # a graph that is alive hides such hooks


def main_gradients(model: nn.Module) -> None:
    def move(parameter: Any) -> None:
        parameter.main_grad.add_(parameter.grad)
        parameter.grad = None

    for parameter in model.parameters():
        parameter.main_grad = torch.zeros_like(parameter)
    on_each(model, move)


def widened(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: gradient.double().float())


def with_noise(model: nn.Module) -> None:
    """Adds as the engine does, but not in its place."""
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: gradient + 0.1)


def real_peak(model: nn.Module) -> int:
    """Return the most bytes that the third step has allocated beyond what was there."""

    def step() -> Any:
        output = model(X)
        loss = output.mean()
        loss.backward()
        return output, loss

    for _ in range(2):
        step()
    model.zero_grad()
    with memory_profile() as profiler:
        held = step()
    del held
    sizes = [size for _, size in memory_changes(profiler.profiler)]
    return max(itertools.accumulate(sizes))


STATES = 2 * 4 * 4 * 256 * 257 + 8 * 4


@pytest.mark.parametrize(
    ("hooks", "states"),
    [
        (in_global, STATES), (in_closure, STATES), (in_class, STATES), (in_method, STATES),
        (in_partial, STATES), (in_weak_dictionary, STATES), (of_torch, STATES), (freed, 0),
        (lomo, 0), (on_nodes, 0), (main_gradients, 0), (widened, 0), (with_noise, 0),
    ],
)  # fmt: skip
def test_the_peak_is_that_of_a_step_with_its_hooks(
    hooks: Callable[[nn.Module], None], states: int
) -> None:
    model = network()
    hooks(model)
    before = [parameter.clone() for parameter in model.parameters()]
    report = tg.analyze(model, input_data=X, scenario=TRAINING)
    memory = report.memory
    assert memory is not None
    assert report.execution == "simulated"
    assert not report.warnings
    assert memory.optimizer_bytes == states
    assert all(map(torch.equal, before, model.parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(not parameter.is_meta for parameter in OPTIMIZERS)
    assert not any(optimizer.state for optimizer in OPTIMIZERS.values())
    there = memory.parameter_bytes + memory.input_bytes + states

    assert memory.peak_allocated_bytes - there == real_peak(model)


def test_what_hooks_count_and_keep_is_not_the_users() -> None:
    global calls
    model, calls, inner = network(), 0, 0

    def count(parameter: torch.Tensor) -> None:
        global calls
        nonlocal inner
        calls, inner = calls + 1, inner + 1
        if calls > 8 or inner > 8:
            raise AssertionError
        NORMS.append(parameter)

    on_each(model, count)
    on_each(model, NORMS.append)
    tg.analyze(model, input_data=X, scenario=TRAINING)
    assert (calls, inner, NORMS) == (0, 0, [])
    parameter = next(model.parameters())
    assert len(parameter._post_accumulate_grad_hooks) == 2  # type: ignore[attr-defined]


def test_a_hook_that_removes_itself_leaves_the_users_in_place() -> None:
    model, handles = network(), []

    def once(parameter: torch.Tensor) -> None:
        handles[0].remove()
        parameter.grad = None

    handles.append(model[0].weight.register_post_accumulate_grad_hook(once))
    report = tg.analyze(model, input_data=X, scenario=TRAINING)
    assert report.memory is not None
    assert report.memory.gradient_bytes == 4 * (4 * 256 * 257 - 256 * 256)
    assert len(model[0].weight._post_accumulate_grad_hooks) == 1  # type: ignore[arg-type]


def test_a_hook_that_asks_for_values_is_run_for_real() -> None:
    model = network()

    def free(parameter: torch.Tensor) -> None:
        if parameter.grad is not None and parameter.grad.norm().item() < 1e9:
            parameter.grad = None

    on_each(model, free)
    report = tg.analyze(model, input_data=X, scenario=TRAINING)
    assert report.execution == "real"
    assert report.memory is not None
    assert report.memory.gradient_bytes == 0


def test_an_optimizer_that_is_left_without_gradients_is_named() -> None:
    model = network()
    freed(model)
    report = tg.analyze(
        model, input_data=X, scenario=tg.Scenario(mode="training", optimizer="adam")
    )
    assert report.memory is not None
    assert report.memory.optimizer_bytes == 0
    assert "no gradient was left for adam: hooks removed all of them" in report.assumptions


class Sealed:
    """Cannot be copied, and hides what it holds."""

    __slots__ = ("optimizers",)

    def __init__(self, optimizers: Any) -> None:
        self.optimizers = optimizers

    def __reduce_ex__(self, version: Any) -> Any:
        raise TypeError("no")


def test_hooks_that_hold_what_cannot_be_copied_do_not_run() -> None:
    model = network()
    sealed = Sealed({parameter: adam(parameter) for parameter in model.parameters()})

    def step(parameter: torch.Tensor) -> None:
        sealed.optimizers[parameter].step()

    on_each(model, step)
    (warning,) = tg.analyze(model, input_data=X, scenario=TRAINING).warnings
    assert warning == (
        "hooks on 8 parameters do not run in this analysis, because a Sealed that they use cannot "
        "be copied: gradients that they free or optimizers that they step are not in the figures"
    )


def test_a_hook_that_does_not_know_the_copy_is_named() -> None:
    model = network()
    own = {parameter.data_ptr(): adam(parameter) for parameter in model.parameters()}
    on_each(model, lambda parameter: own[parameter.data_ptr()].step())
    with pytest.raises(ModelError, match="a hook on a parameter raised this") as caught:
        tg.analyze(model, input_data=X, scenario=TRAINING)
    assert "handle.remove()" in (caught.value.hint or "")


def test_hooks_run_in_a_measured_step() -> None:
    model = network()
    in_global(model)
    before = [parameter.clone() for parameter in model.parameters()]
    measured = tg.measure(
        model, input_data=X, scenario=TRAINING, min_repetitions=2, max_seconds=0.1
    )
    assert measured is not None
    assert all(map(torch.equal, before, model.parameters()))
    assert not any(optimizer.state for optimizer in OPTIMIZERS.values())
