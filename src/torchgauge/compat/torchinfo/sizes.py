"""Which one shape a row shows of what went into a layer and came out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.distributions import Distribution

from torchgauge.facts.codec.quick import made_quickly
from torchgauge.trace.inspect.irregular import counted_shape
from torchgauge.trace.run.watched import looks_only


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSizes:
    """Shapes that a row shows, and the bytes of the output that is shown."""

    input_size: list[Any]
    output_size: list[Any]
    output_bytes: int


def size_observer(batch_dim: int | None) -> Callable[..., ShownSizes]:
    """Return an observer of calls that keeps the shapes which a row shows."""

    @looks_only
    def observe(path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> ShownSizes:
        if batch_dim is None and args and _is_plain(output) and _is_plain(args[0]):
            return ShownSizes(
                input_size=[*args[0].shape],
                output_size=[*output.shape],
                output_bytes=output.numel() * output.element_size(),
            )
        tensor = _first_tensor(output)
        return ShownSizes(
            input_size=shown_size(args, batch_dim),
            output_size=shown_size(output, batch_dim),
            output_bytes=0 if tensor is None else prod(_shape(tensor)) * tensor.element_size(),
        )

    return observe


def _is_plain(value: Any) -> bool:
    return type(value) is torch.Tensor and not value.is_nested


def shown_size(value: Any, batch_dim: int | None) -> list[Any]:
    """Return the shape that the table shows of a layer's positional inputs, or of its output.

    Of a tuple or list the first tensor, of a dict the last value; ``[]`` where there is none.
    With ``batch_dim`` that dimension is shown as 1.
    """
    size = list(_shape(_first_tensor(value)))
    if batch_dim is None or isinstance(value, torch.Tensor):
        return size
    if isinstance(value, Mapping):  # two brackets, as torchinfo prints them
        return [_with_one(size, batch_dim)]
    return _with_one(size, batch_dim) if batch_dim < len(size) else size


def _with_one(size: list[int], batch_dim: int) -> list[int]:
    return [*size[:batch_dim], 1, *size[batch_dim + 1 :]]


def _shape(found: Any) -> tuple[int, ...]:
    if isinstance(found, torch.Tensor) and found.is_nested:  # its own shape has no numbers
        return counted_shape(found)[0]
    return () if found is None else tuple(map(int, found.shape))


def _is_numeric(array: Any) -> bool:
    kind = getattr(getattr(array, "dtype", None), "kind", "")
    return bool(kind) and kind in "biufc"


def _first_tensor(value: Any, nested: bool = False) -> Any:
    """Return the tensor (or what describes one) that stands for a value.

    As in torchinfo: of a dict its last value, of a dict inside of something else its first.
    """
    if isinstance(value, torch.Tensor):
        return value
    if type(value) is tuple or type(value) is list:
        return _first_tensor(value[0], True) if value else None
    if isinstance(value, Distribution):
        shape = value.batch_shape + value.event_shape
        return torch.empty(shape, device="meta")
    if type(value).__module__ == "numpy" and _is_numeric(value):
        return torch.as_tensor(value)
    if isinstance(value, Mapping):
        return _first_tensor(list(value.values())[0 if nested else -1], True) if value else None
    if hasattr(value, "tensors"):
        return _first_tensor(value.tensors, True)
    if isinstance(value, (list, tuple)):
        return _first_tensor(value[0], True) if value else None
    data = getattr(value, "data", None)
    return data if isinstance(data, torch.Tensor) else None
