"""What a changed copy does when it really runs: the shapes, and where it matters the values."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from torchgauge.changes.change import Change, Rewriter, in_shape, rewritten
from torchgauge.errors import TorchGaugeError
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.models.requests import build_for, with_build
from torchgauge.request import Request
from torchgauge.trace.inputs.plan import plan_inputs, real_or_made
from torchgauge.trace.isolate.left_behind import Outside

_MOST_BYTES: Final = 4 << 30
_MOST_FLOPS: Final = 60e9
"""Up to here a model is run for real: a second or two on a laptop."""
_TOLERANCE: Final = {
    torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 4e-3,
}  # fmt: skip
"""Largest difference of outputs, as a share of the largest output."""


Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A model that can run."""

    model: nn.Module
    arguments: Arguments


class Prover:
    """Runs the model and its changed copies on the CPU, on the same random inputs."""

    def __init__(self, request: Request, param_bytes: int, flops: float) -> None:
        self._request = request
        self._why_not = too_large(param_bytes, flops)
        self._prepared: Prepared | None = None
        self._outputs: list[torch.Tensor] = []

    def prove(self, change: Change, rule: Rewriter) -> tuple[str, ...]:
        """Return what was tried and what came of it.

        Raises:
            TorchGaugeError: the changed copy does not run, or does not do what the rule says.
        """
        if not change.changes_model:
            return ()
        if self._why_not:
            return (self._why_not,)
        with nothing_left_outside(self._request.model):
            return self._proven(change, rule)

    def _proven(self, change: Change, rule: Rewriter) -> tuple[str, ...]:
        try:
            prepared = self._ready()
        except Exception as error:  # the model's own code
            self._why_not = f"not run for real: {type(error).__name__}: {_first_line(error)}"
            return (self._why_not,)
        if not change.keeps_outputs:
            changed = rewritten(change, prepared.model, rule, shares_tensors=False)
            return (_same_loss(copy.deepcopy(prepared.model), changed, prepared.arguments),)
        # Of a model that has to be trained again only the shapes are looked at.
        made = in_shape(change) if change.accuracy is Accuracy.RETRAIN else change
        changed = rewritten(made, prepared.model, rule)
        try:
            outputs = run(changed, prepared.arguments)
        except Exception as error:
            raise TorchGaugeError(
                f"the changed copy does not run: {type(error).__name__}: {_first_line(error)}"
            ) from error
        return tuple(self._compared(change, outputs))

    def _ready(self) -> Prepared:
        if self._prepared is None:
            found = prepared(self._request)
            self._outputs = run(found.model, found.arguments)
            self._prepared = found
        return self._prepared

    def _compared(self, change: Change, outputs: list[torch.Tensor]) -> Iterator[str]:
        shapes = [list(tensor.shape) for tensor in self._outputs]
        if [list(tensor.shape) for tensor in outputs] != shapes:
            raise TorchGaugeError("the changed copy returns other shapes")
        if change.accuracy is not Accuracy.NONE:
            yield f"run on the CPU: output {', '.join(map(str, shapes))} as before"
            return
        worst = 0.0
        for before, after in zip(self._outputs, outputs, strict=True):
            worst = max(worst, difference(before, after))
        if worst > tolerance(outputs):
            raise TorchGaugeError(f"the changed copy computes something else ({worst:.1e} off)")
        yield (
            f"run on the CPU: outputs equal within {worst:.0e} of the largest"
            if worst
            else ("run on the CPU: outputs equal to the bit")
        )


@contextmanager
def nothing_left_outside(model: nn.Module | None) -> Iterator[None]:
    """Remove what a run of a copy stores outside of it, as a hook that appends to a list does."""
    # A copy shares its functions, and what they refer to, with the model.
    outsides = (Outside(None, _functions_in(model)), Outside(model))
    try:
        yield
    finally:
        for outside in outsides:
            outside.put_back(None, simulated=False)


def _functions_in(model: nn.Module | None) -> list[Any]:
    """Return the hooks of a model, and what else its modules hold that is called."""
    found: list[Any] = []
    for module in () if model is None else model.modules():
        for value in vars(module).values():
            found += value.values() if isinstance(value, dict) else (value,)
    return [item for item in found if callable(item) and not isinstance(item, (nn.Module, type))]


def prepared(request: Request) -> Prepared:
    """Return the model of a request with weights, and random inputs for it on the CPU.

    Raises:
        ValueError: its weights are not there, or no input was given.
        TorchGaugeError: the model cannot be built.
    """
    model = request.model
    tensors = () if model is None else (*model.parameters(), *model.buffers())
    if model is None or any(tensor.is_meta for tensor in tensors):
        if request.spec is None:
            raise ValueError("its weights are not there")
        made = build_for(request, with_weights=True)
        model = made.model
        if request.model is None:
            request = with_build(request, made)
    torch.manual_seed(0)
    return Prepared(model=model, arguments=made_inputs(model, request))


def made_inputs(model: nn.Module, request: Request) -> Arguments:
    """Return random inputs of a request on the CPU, or those that were given.

    Raises:
        ValueError: it has no input.
    """
    plan = plan_inputs(model, request.inputs)
    if plan is None:
        raise ValueError("there is no input")
    args = tuple(real_or_made(value, _made) for value in plan.args)
    return args, {name: real_or_made(value, _made) for name, value in plan.kwargs.items()}


def too_large(param_bytes: int, flops: float) -> str:
    """Return why a model is not run for real, ``""`` where that takes seconds."""
    if param_bytes > _MOST_BYTES:
        return "not run for real: more than 4 GiB of parameters"
    return "not run for real: more than 60 GFLOPs a forward" if flops > _MOST_FLOPS else ""


def _made(value: Any) -> torch.Tensor:
    tensor: torch.Tensor = value.make("cpu")
    return tensor


def run(model: nn.Module, arguments: Arguments, *, training: bool = False) -> list[torch.Tensor]:
    """Return the tensors that a model returns, in eval mode; its modes are left as they are.

    In train mode its random numbers are the same each time, and its buffers stay as they are.
    """
    modes = {module: module.training for module in model.modules()}
    if training:
        model = copy.deepcopy(model)
    try:
        model.train(training)
        torch.manual_seed(0)
        with torch.no_grad():
            return list(tensors_in(model(*arguments[0], **arguments[1])))
    finally:
        for module, mode in modes.items():
            module.training = mode


def _same_loss(model: nn.Module, changed: nn.Module, arguments: Arguments) -> str:
    """Return how far the losses of two copies in train mode are apart, with the same dropout.

    Raises:
        TorchGaugeError: the changed copy does not run, or its loss is another one.
    """
    losses = []
    for copied in (model, changed):
        torch.manual_seed(0)
        try:
            output = copied.train()(*arguments[0], **arguments[1])
        except Exception as error:
            raise TorchGaugeError(
                f"the changed copy does not run: {type(error).__name__}: {_first_line(error)}"
            ) from error
        losses.append(next(t.detach() for t in tensors_in(output) if t.numel() == 1))
    apart = difference(*losses)
    if apart > tolerance(losses):
        raise TorchGaugeError(f"the changed copy computes another loss ({apart:.1e} off)")
    return f"run on the CPU in train mode: loss equal within {apart:.0e}"


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors that an output holds, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def tolerance(outputs: list[torch.Tensor]) -> float:
    """Return the largest difference that rounding explains."""
    dtype = next((t.dtype for t in outputs if t.is_floating_point()), torch.float32)
    return _TOLERANCE.get(dtype, 0.0)


def difference(before: torch.Tensor, after: torch.Tensor) -> float:
    """Return the largest difference of two outputs, as a share of the largest value."""
    if not before.is_floating_point():
        return 0.0 if torch.equal(before, after) else 1.0
    scale = before.abs().max().item() if before.numel() else 1.0
    if not before.numel():
        return 0.0
    found: float = (before.double() - after.double()).abs().max().item()
    return found / scale if scale else found


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")
