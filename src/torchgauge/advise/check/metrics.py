"""How well outputs fit their targets: accuracy, squared error, the model's own loss, or yours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from torchgauge.advise.check.batches import Batch
from torchgauge.advise.check.proof import tensors_in
from torchgauge.errors import UsageError
from torchgauge.models.build import how_it_failed

ACCURACY: Final = "accuracy"
LOSS: Final = "loss"
SQUARED_ERROR: Final = "mean squared error"
_IGNORED: Final = -100
"""A target that ``torch.nn.functional.cross_entropy`` leaves out."""
_HINT: Final = "name a function of outputs and targets with --check-metric file.py:metric"

Score = Callable[[Any, Batch], tuple[float, float]]
"""Returns a sum over a batch, and what to divide it by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measure and its name."""

    name: str
    score: Score


def chosen_metric(own: Callable[[Any, Any], Any] | None, outputs: Any, batch: Batch) -> Metric:
    """Return the user's metric, or the one that fits the first outputs and targets.

    Raises:
        UsageError: no metric fits them.
    """
    if own is not None:
        name = getattr(own, "__name__", type(own).__name__)
        return Metric(name=name, score=_of_function(own, name))
    if loss_in(outputs) is not None:
        return Metric(name=LOSS, score=_loss)
    targets = batch.targets
    if not isinstance(targets, torch.Tensor):
        said = "no targets" if targets is None else f"targets of {type(targets).__name__}"
        raise UsageError(f"the data hold {said}, and the model returns no loss", hint=_HINT)
    found = first_tensor(outputs)
    if not targets.is_floating_point() and _class_dimension(found, targets) is not None:
        return Metric(name=ACCURACY, score=_accuracy)
    if targets.is_floating_point() and found.numel() == targets.numel():
        return Metric(name=SQUARED_ERROR, score=_squared_error)
    raise UsageError(
        f"no metric is known for outputs {list(found.shape)} and {targets.dtype} targets "
        f"{list(targets.shape)}".replace("torch.", ""),
        hint=_HINT,
    )


def loss_in(outputs: Any) -> torch.Tensor | None:
    """Return the loss that a model has computed itself."""
    held = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    return held if isinstance(held, torch.Tensor) and held.numel() == 1 else None


def first_tensor(outputs: Any) -> torch.Tensor:
    """Return the logits, or the first tensor that a model returns.

    Raises:
        UsageError: it returns none.
    """
    held = getattr(outputs, "logits", None)
    held = outputs.get("logits") if isinstance(outputs, Mapping) else held
    if isinstance(held, torch.Tensor):
        return held
    found = next(tensors_in(outputs), None)
    if found is None:
        raise UsageError(f"the model returns {type(outputs).__name__}", hint=_HINT)
    return found


def _class_dimension(outputs: torch.Tensor, targets: torch.Tensor) -> int | None:
    """Return which dimension of the outputs holds the classes: the one that targets lack."""
    shape = tuple(outputs.shape)
    if len(shape) != targets.dim() + 1 or targets.is_complex():
        return None
    if (shape[0], *shape[2:]) == tuple(targets.shape):
        return 1
    return len(shape) - 1 if shape[:-1] == tuple(targets.shape) else None


def _accuracy(outputs: Any, batch: Batch) -> tuple[float, float]:
    found = first_tensor(outputs)
    dimension = _class_dimension(found, batch.targets)
    if dimension is None:
        raise UsageError("the shapes of outputs and targets change between batches", hint=_HINT)
    counts = batch.targets != _IGNORED
    right = (found.argmax(dimension) == batch.targets) & counts
    return float(right.sum()), float(counts.sum())


def _squared_error(outputs: Any, batch: Batch) -> tuple[float, float]:
    found = first_tensor(outputs)
    off = found.double().reshape(batch.targets.shape) - batch.targets.double()
    return float(off.square().sum()), float(off.numel())


def _loss(outputs: Any, batch: Batch) -> tuple[float, float]:
    found = loss_in(outputs)
    if found is None:
        raise UsageError("the model returns its loss for some batches only", hint=_HINT)
    return float(found) * batch.samples, float(batch.samples)


def _number(value: Any, name: str) -> float:
    kind = type(value).__name__
    said = f"{kind} of shape {list(value.shape)}" if getattr(value, "shape", ()) else kind
    try:
        if isinstance(value, str):  # ``float`` would read it
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"the metric {name} returns {said}, not a number",
            hint="let it return one number for a batch: a float or a tensor of one element",
        ) from error


def _of_function(own: Callable[[Any, Any], Any], name: str) -> Score:
    def score(outputs: Any, batch: Batch) -> tuple[float, float]:
        try:
            value = own(outputs, batch.targets)
        except (Exception, SystemExit) as error:  # the user's own function
            raise UsageError(
                f"the metric {name} {how_it_failed(error)}",
                hint="it takes the model's outputs and the targets, and returns a number",
            ) from error
        return _number(value, name) * batch.samples, float(batch.samples)

    return score
