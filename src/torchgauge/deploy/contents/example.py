"""From the reading of the inputs that ran to example tensors, and which of their sizes may vary."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torchgauge.deploy.export.call import Call, make_call
from torchgauge.deploy.export.exporting import SEQUENCE, DynamicDims
from torchgauge.deploy.export.signature import BATCH
from torchgauge.errors import InputError
from torchgauge.trace.inputs.plan import InputPlan, InputTensor
from torchgauge.units import format_number_of

_SMALLEST_BATCH = 2
"""torch.export takes a size of 1 for a constant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """The call that is exported."""

    call: Call
    dynamic: DynamicDims
    notes: tuple[str, ...] = ()


def example_call(
    model: nn.Module, plan: InputPlan, wanted: DynamicDims, notes: tuple[str, ...]
) -> Example:
    """Return the call with a batch of at least two, and its dynamic dimensions.

    These are: the batch of every input, further dimensions of token inputs (integers, and masks
    of the same shape), and what ``wanted`` names.

    Raises:
        InputError: ``wanted`` names an input or a dimension that does not exist.
    """
    args = [_real(value, plan) for value in plan.args]
    kwargs = {name: _real(value, plan) for name, value in plan.kwargs.items()}
    call = make_call(args, kwargs, _positional_names(model))
    batch = _batch(plan)
    dynamic: dict[str, dict[int, str]] = {}
    tokens: set[int] = set()
    for name, tensor in zip(call.names, call.tensors, strict=True):
        dims = dynamic.setdefault(name, {})
        if batch is not None and _has_batch(tensor.shape, plan.batch_dim, batch):
            dims[plan.batch_dim % tensor.dim()] = BATCH
        is_tokens = not (tensor.is_floating_point() or tensor.is_complex())
        for dim, size in enumerate(tensor.shape):
            if is_tokens and dim not in dims and size > 1:
                dims[dim] = SEQUENCE if not tokens or size in tokens else f"{name}_length"
                tokens.add(size)
    for name, named in wanted.items():
        _add_wanted(call, dynamic, name, named)
    return Example(call=call, dynamic=dynamic, notes=notes)


def _add_wanted(
    call: Call, dynamic: dict[str, dict[int, str]], name: str, named: Mapping[int, str]
) -> None:
    if name not in call.names:
        raise InputError(
            f"there is no input {name!r}", hint=f"the inputs are {', '.join(call.names)}"
        )
    tensor = call.tensors[call.names.index(name)]
    for dim, text in named.items():
        if not 0 <= dim < tensor.dim():
            raise InputError(
                f"{name} has {format_number_of(tensor.dim(), 'dimension')}, there is none numbered "
                f"{dim}",
                hint="count from 0",
            )
        if tensor.shape[dim] == 1:
            raise InputError(
                f"dimension {dim} of {name} has size 1, which torch.export treats as a constant",
                hint="give an input with size 2 or more there",
            )
        dynamic[name].setdefault(dim, text)


def _batch(plan: InputPlan) -> int | None:
    return None if plan.batch_size is None else max(plan.batch_size, _SMALLEST_BATCH)


def _real(value: Any, plan: InputPlan) -> Any:
    """Return a real tensor for a planned one, with the batch grown to the smallest allowed."""
    batch = _batch(plan)
    if isinstance(value, InputTensor):
        if batch is not None and value.has_batch(plan.batch_size, plan.batch_dim):
            value = value.with_batch(batch, plan.batch_dim)
        return value.make("cpu")
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        if value.is_meta:
            raise InputError("the inputs have no values", hint="pass tensors on the CPU")
        if batch != plan.batch_size and _has_batch(value.shape, plan.batch_dim, plan.batch_size):
            value = value.repeat_interleave(_SMALLEST_BATCH, dim=plan.batch_dim)
        return value
    if isinstance(value, Mapping):
        return {name: _real(item, plan) for name, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_real(item, plan) for item in value)
    return value


def _has_batch(shape: tuple[int, ...] | torch.Size, dim: int, batch: int | None) -> bool:
    return -len(shape) <= dim < len(shape) and shape[dim] == batch


def _positional_names(model: nn.Module) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in kinds]
