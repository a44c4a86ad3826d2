"""What a user writes for the sizes, dtypes and batch of the inputs, checked."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import nn

from torchgauge.errors import InputError
from torchgauge.request import Size

_MOST_BYTES = 2**63 - 1


def named_sizes(model: nn.Module, input_size: Any) -> list[tuple[str, bool, Size]]:
    """Return ``(name, is keyword, size)`` per input."""
    if _holds_data(input_size):
        raise InputError(
            "input_size takes sizes, and got tensors or arrays",
            hint="pass them as input_data=…: tg.analyze(model, input_data=x)",
        )
    if isinstance(input_size, Mapping):
        return [(str(name), True, _size(size)) for name, size in input_size.items()]
    if isinstance(input_size, int) and not isinstance(input_size, bool):
        input_size = (input_size,)
    if isinstance(input_size, str) or not isinstance(input_size, Iterable):
        raise InputError(
            f"input_size {input_size!r} is not a size",
            hint="write (3, 224, 224) or [(3, 32, 32), (10,)]",
        )
    as_list = getattr(input_size, "tolist", None)  # of an array of whole numbers
    items = list(input_size) if as_list is None else as_list()
    if all(isinstance(item, int) for item in items):
        items = [items]
    names = _positional_names(model)
    return [
        (names[index] if index < len(names) else str(index), False, _size(item))
        for index, item in enumerate(items)
    ]


def _holds_data(value: Any) -> bool:
    """Return whether a tensor, or an array of more than whole numbers, is given."""
    if isinstance(value, Mapping):
        return any(map(_holds_data, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_data, value))
    is_array = type(value).__module__ == "numpy" and getattr(value, "ndim", 0) > 0
    return isinstance(value, torch.Tensor) or (
        is_array and (value.ndim > 1 or value.dtype.kind not in "iu")
    )


def _size(size: Any) -> Size:
    try:
        values = tuple(int(value) for value in size)
        exact = all(int(value) == value for value in size)
    except (TypeError, ValueError):
        exact, values = False, ()
    if not exact:
        raise InputError(f"input size {size!r} is not a tuple of whole numbers")
    if any(value <= 0 for value in values):
        raise InputError(
            f"input size {values} has a dimension that is not positive",
            hint="leave the batch out, or give its size (-1 is not one)",
        )
    return values


def _positional_names(model: nn.Module) -> list[str]:
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def dtypes_of(dtypes: Sequence[str | torch.dtype] | None, count: int) -> list[torch.dtype | None]:
    """Return the dtype of each input, ``None`` where none is named."""
    if dtypes is None:
        return [None] * count
    if isinstance(dtypes, (str, torch.dtype)):
        dtypes = [dtypes]
    resolved = [_dtype(item) for item in dtypes]
    if len(resolved) == 1:
        resolved = resolved * count
    if len(resolved) != count:
        raise InputError(
            f"{len(resolved)} dtypes for {count} inputs", hint="give one, or one per input"
        )
    return list(resolved)


def _dtype(value: str | torch.dtype) -> torch.dtype:
    if isinstance(value, torch.dtype):
        return value
    found = getattr(torch, str(value).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise InputError(
            f"unknown dtype {value!r}", hint="write float32, bfloat16, int64 or bool, for example"
        )
    return found


def check_batch(batch_size: int | None, batch_dim: int | None) -> None:
    """Raise an InputError for an invalid batch size or dimension."""
    for name, value in (("batch_size", batch_size), ("batch_dim", batch_dim)):
        if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__")):
            raise InputError(f"{name}={value!r} is not a whole number", hint=f"write {name}=8")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size={batch_size} is not positive", hint="use 1 or more")


def check_room(name: str, shape: Size, dtype: torch.dtype) -> None:
    """Raise an InputError for a tensor whose bytes no 64-bit integer can count."""
    if prod(shape) * dtype.itemsize > _MOST_BYTES:
        raise InputError(
            f"input {name} of shape {list(shape)} is larger than 2^63 bytes, more than any "
            "machine can address",
            hint="use a smaller batch or input size",
        )


def with_batch_dim(size: Size, dim: int, batch: int) -> Size:
    """Return a size with the batch at ``dim``."""
    position = dim if dim >= 0 else len(size) + 1 + dim
    if not 0 <= position <= len(size):
        raise InputError(f"batch_dim={dim} is out of range for size {size}")
    return (*size[:position], batch, *size[position:])
