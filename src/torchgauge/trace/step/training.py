"""Losses and optimizers of a training scenario."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from torchgauge.errors import ScenarioError
from torchgauge.facts.scenario import (
    CUSTOM_LOSS,
    OptimizerImplementation,
    Precision,
    Scenario,
    ZeroGrad,
)
from torchgauge.trace.inspect.describe import tensors_in
from torchgauge.trace.inspect.modules import tensors_of
from torchgauge.trace.torch_internals.kernels import list_kernels_on_meta

NO_GRADIENT = "no output depends on a trainable parameter, so there is no gradient to compute"
_OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 1e-3}),
    "sgd-momentum": ("SGD", {"lr": 1e-3, "momentum": 0.9}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {}),
    "adadelta": ("Adadelta", {}),
    "adamax": ("Adamax", {}),
    "nadam": ("NAdam", {}),
    "radam": ("RAdam", {}),
    "asgd": ("ASGD", {}),
    "rprop": ("Rprop", {}),
    "adafactor": ("Adafactor", {}),
    "adamw-8bit": ("torchgauge.trace.step.optimizers:Adam8bit", {}),
}
"""Class in ``torch.optim`` or ``module:Class``, and settings that differ from its defaults."""


_FOR_LOOP_BY_DEFAULT = ("adafactor",)
"""Optimizers that take no lists of tensors unless asked, to save memory."""


def make_optimizer(
    name: str,
    parameters: Iterable[torch.Tensor],
    implementation: OptimizerImplementation | str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    foreach: bool = False,
) -> torch.optim.Optimizer | None:
    """Return the optimizer of that name over the trainable parameters.

    Without an ``implementation``, ``foreach`` says what the device takes by default.
    """
    if name == "none":
        return None
    kind, settings = _class_of(name)
    if needed := _arguments_of_step(kind):
        raise ScenarioError(
            f"{name} takes a closure: its step evaluates the model again, as often as the values "
            "ask for, which is not traced"
            if needed == ["closure"]
            else f"{name} takes arguments in step() that are not known: {', '.join(needed)}",
            hint="optimizer='none' gives forward and backward of one evaluation",
        )
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if not trainable:
        raise ScenarioError(
            "no parameter requires a gradient, so there is nothing to train",
            hint="unfreeze a layer, or analyse with mode='inference'",
        )
    if implementation is None:
        lists = foreach and name not in _FOR_LOOP_BY_DEFAULT
        implementation = (
            OptimizerImplementation.FOREACH if lists else OptimizerImplementation.FOR_LOOP
        )
    accepted = inspect.signature(kind).parameters
    if "foreach" in accepted:
        settings = {**settings, "foreach": implementation == OptimizerImplementation.FOREACH}
    if implementation == OptimizerImplementation.FUSED:
        settings = {**settings, "fused": True}
    with list_kernels_on_meta():
        try:
            return kind(trainable, **{**settings, **(options or {})})
        except (TypeError, ValueError) as error:
            raise ScenarioError(
                f"the optimizer {name} refuses its options: {error}",
                hint="it takes " + ", ".join(list(accepted)[1:]),
            ) from error


def _class_of(name: str) -> tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]:
    """Return an optimizer's class and the settings that differ from its defaults."""
    kind, settings = _OPTIMIZERS.get(name, (name, {}))
    if ":" not in kind:
        return getattr(torch.optim, kind), settings
    module, _, attribute = kind.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ScenarioError(
            f"the optimizer {name} cannot be imported: {error}",
            hint="write package.module:Class, or one of " + ", ".join(_OPTIMIZERS),
        ) from error
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ScenarioError(f"{name} is not a torch.optim.Optimizer", hint="name a subclass of it")
    return found, settings


def _arguments_of_step(kind: Callable[..., torch.optim.Optimizer]) -> list[str]:
    """Return the arguments that an optimizer's ``step`` does not go without."""
    try:
        parameters = list(inspect.signature(getattr(kind, "step")).parameters.values())[1:]  # noqa: B009  # not in the stubs
    except (AttributeError, TypeError, ValueError):
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variable]


class Trainer:
    """What a training loop does around the forward, on a copied model.

    ``foreach`` says whether the device's optimizers go over lists of tensors by default.
    """

    def __init__(self, root: nn.Module, scenario: Scenario, *, foreach: bool) -> None:
        self._root = root
        self._scenario = scenario
        self._foreach = foreach
        self.optimizer = make_optimizer(
            scenario.optimizer or "none",
            root.parameters(),
            scenario.optimizer_implementation,
            options=dict(scenario.optimizer_options),
            foreach=foreach,
        )
        self._scale = torch.ones((), device=device_of(root)) if self._scales else None
        self.average: list[torch.Tensor] = []
        """The moving average of the parameters."""
        if scenario.ema:
            self.average = [torch.empty_like(p.detach()) for p in root.parameters()]
        self._is_first_backward = True
        if scenario.zero_grad is ZeroGrad.NEVER_FREED:
            for parameter in self._trainable():
                parameter.grad = torch.zeros_like(parameter)

    def kept_gradients(self) -> list[tuple[str, torch.Tensor]]:
        """Return the gradients that are there before the step, by the parameter's name."""
        if all(p.grad is None for p in tensors_of(self._root).parameters):
            return []
        named = self._root.named_parameters()
        return [(name, p.grad) for name, p in named if p.grad is not None]

    @property
    def has_gradients(self) -> bool:
        """Return whether the step has anything to do."""
        return any(parameter.grad is not None for parameter in self._trainable())

    def begin(self) -> None:
        """Set gradients that stay to zero.

        For ``BEFORE_FORWARD`` the end of the step before has dropped them; for
        ``BEFORE_BACKWARD`` the first ``backward`` of the step does so.
        """
        self._is_first_backward = True
        if self._scenario.zero_grad is ZeroGrad.NEVER_FREED:
            self._zero_gradients()

    def _zero_gradients(self) -> None:
        keep = self._scenario.zero_grad is ZeroGrad.NEVER_FREED
        (self.optimizer or self._root).zero_grad(set_to_none=not keep)

    def end(self) -> None:
        """Drop the gradients after the step, where the scenario does not keep them."""
        if self._scenario.zero_grad is ZeroGrad.BEFORE_FORWARD:
            self._zero_gradients()

    def backward(self, loss: torch.Tensor) -> None:
        """Run the backward; the loss of float16 autocast is scaled, as ``GradScaler`` does."""
        if self._is_first_backward and self._scenario.zero_grad is ZeroGrad.BEFORE_BACKWARD:
            self._zero_gradients()
        self._is_first_backward = False
        if self._scale is not None:
            loss = loss * self._scale
        loss.backward()

    def step(self) -> None:
        """Unscale, clip, update the parameters and their moving average."""
        assert self.optimizer is not None
        if self._scale is not None:
            unscale([p.grad for p in self._trainable() if p.grad is not None], self._scale)
        if self._scenario.gradient_clipping:
            with list_kernels_on_meta():
                nn.utils.clip_grad_norm_(self._trainable(), 1.0, foreach=self._foreach)
        asks_again = self.optimizer.defaults.get("fused") or self.optimizer.defaults.get(
            "capturable"
        )
        with list_kernels_on_meta() if asks_again else nullcontext():
            self.optimizer.step()
        if self.average:
            self._update_average()

    @property
    def _scales(self) -> bool:
        return self._scenario.precision is Precision.FP16_AUTOCAST

    def _trainable(self) -> list[nn.Parameter]:
        return [p for p in self._root.parameters() if p.requires_grad]

    @torch.no_grad()
    def _update_average(self) -> None:
        parameters = [p.detach() for p in self._root.parameters()]
        if self._foreach:
            torch._foreach_lerp_(self.average, parameters, 1e-3)
            return
        for average, parameter in zip(self.average, parameters, strict=True):
            average.lerp_(parameter, 1e-3)


@torch.no_grad()
def unscale(gradients: list[torch.Tensor], scale: torch.Tensor) -> None:
    """Divide gradients by the scale of the loss and look for infinities, in place."""
    found = torch.zeros((), device=scale.device)
    inverse = scale.double().reciprocal().float()
    torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, inverse)


def device_of(root: nn.Module) -> torch.device:
    """Return the device of a model's first parameter, the CPU without any."""
    return next((p.device for p in root.parameters()), torch.device("cpu"))


def as_channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """Return images (four dimensions) with their channels last, other tensors as they are."""
    if tensor.dim() != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)


def to_channels_last(root: nn.Module) -> None:
    """Lay out the weights of images with their channels last, as ``module.to`` does."""
    root.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compute_loss(
    output: Any, name: str, custom: Callable[[Any], torch.Tensor] | None
) -> tuple[torch.Tensor, str]:
    """Return a scalar loss of the model's output, and a sentence that says which."""
    if custom is not None:
        loss = custom(output)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise ScenarioError(
                "the loss function did not return a tensor with one element",
                hint="reduce it, for example with .mean()",
            )
        return loss, ""
    if name.startswith(CUSTOM_LOSS):
        function = name.removeprefix(CUSTOM_LOSS)
        raise ScenarioError(
            f"the scenario's loss {function!r} is a function that was not passed",
            hint="pass it as loss=function",
        )
    own = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if name == "auto" and isinstance(own, torch.Tensor) and own.requires_grad:
        return own, "loss: the one that the model returns"
    floats = [t for t in tensors_in(output) if t.requires_grad and t.is_floating_point()]
    if not floats:
        raise ScenarioError(
            NO_GRADIENT,
            hint="return a floating-point tensor, unfreeze a layer, or use mode='inference'",
        )
    if name in ("cross_entropy", "mse"):
        return _against_target(floats[0], name), f"loss: {name} of the first output, target zeros"
    # A strided nested tensor has no mean of its own.
    floats = [t.values() if t.is_nested and t.layout is torch.strided else t for t in floats]
    reduce = torch.sum if name == "sum" else torch.mean
    loss = reduce(floats[0])
    for tensor in floats[1:]:
        loss = loss + reduce(tensor)
    verb = "sum" if name == "sum" else "mean"
    return loss, f"loss: {verb} of all outputs, instead of the real loss"


def _against_target(output: torch.Tensor, name: str) -> torch.Tensor:
    if name == "mse":
        return functional.mse_loss(output, torch.zeros_like(output))
    if output.dim() == 3:  # tokens: [B, S, V] with the classes last
        output = output.flatten(0, 1)
    if output.dim() < 2:
        raise ScenarioError(
            f"cross_entropy needs an output of shape [B, classes, ...], got {tuple(output.shape)}",
            hint="use another loss, or pass loss=callable",
        )
    shape = (output.shape[0], *output.shape[2:])
    target = torch.zeros(shape, dtype=torch.int64, device=output.device)
    return functional.cross_entropy(output, target)
