"""What was given to ``summary()``: checked as torchinfo does, and read as arguments of a run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from torchgauge.compat.dtypes import dtypes_of
from torchgauge.compat.torchinfo.enums import ColumnSettings
from torchgauge.errors import UsageError
from torchgauge.trace.inspect.irregular import counted_shape

_NEED_INPUT = {ColumnSettings.INPUT_SIZE, ColumnSettings.OUTPUT_SIZE, ColumnSettings.MULT_ADDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The arguments of a forward; nothing runs when there are none."""

    sizes: Any
    """As ``ModelStatistics.input_size`` shows them."""
    shapes: list[tuple[int, ...]] | None = None
    data: Any = None
    dtypes: list[torch.dtype] | None = None
    kwargs: Mapping[str, Any]

    array_bytes: int = 0
    """Of NumPy arrays that the model gets as they are."""

    @property
    def arrays(self) -> list[Any]:
        """Return the NumPy arrays among the data; they run as tensors at first."""
        items = [self.data]
        if isinstance(self.data, (list, Mapping)):
            items = list(self.data.values() if isinstance(self.data, Mapping) else self.data)
        return [item for item in items if _is_array(item)]

    def with_arrays(self, forward: Callable[..., Any]) -> Given | None:
        """Return the same arguments with arrays left as they are, for a model that wants those."""
        data = [self.data] if _is_array(self.data) else self.data
        if not isinstance(data, Mapping):
            try:
                data = inspect.signature(forward).bind_partial(*data).arguments
            except (TypeError, ValueError):
                return None
        nbytes = sum(array.nbytes for array in self.arrays)
        return replace(self, data={}, kwargs={**data, **self.kwargs}, array_bytes=nbytes)

    @property
    def runs(self) -> bool:
        """Return whether there is something to run the model on."""
        return self.shapes is not None or self.data is not None


def check(
    input_data: Any,
    input_size: Any,
    kwargs: Mapping[str, Any],
    columns: Sequence[ColumnSettings],
    col_width: int,
    verbose: int,
) -> None:
    """Raise torchinfo's errors for what makes no sense."""
    if col_width <= 0:
        raise ValueError(f"Column width must be greater than 0: col_width={col_width}")
    if verbose not in (0, 1, 2):
        raise ValueError("Verbose must be either 0 (quiet), 1 (default), or 2 (verbose).")
    if input_data is not None and input_size is not None:
        raise RuntimeError("Only one of (input_data, input_size) should be specified.")
    needing = set(columns) & _NEED_INPUT
    if input_data is None and input_size is None and needing and not has_tensor(kwargs):
        raise ValueError(
            f"You must pass input_data or input_size in order to use columns: {needing}"
        )


def read(
    input_data: Any,
    input_size: Any,
    batch_dim: int | None,
    dtypes: Sequence[Any] | None,
    kwargs: Mapping[str, Any],
) -> Given:
    """Return the arguments of the forward."""
    if input_size is not None:
        sizes = _sizes(input_size)
        return Given(
            sizes=sizes,
            shapes=[_with_batch(_shape(size), batch_dim) for size in sizes],
            dtypes=_dtypes(dtypes, len(sizes)),
            kwargs=kwargs,
        )
    if input_data is None and has_tensor(kwargs):  # torchinfo leaves these out without a word
        return Given(sizes=sizes_of(dict(kwargs)), data=dict(kwargs), kwargs={})
    data = input_data
    if isinstance(data, PackedSequence):  # a tuple by its class, one argument by its use
        data = [data]
    elif isinstance(data, tuple):  # a named one too is a list of arguments
        data = list(data)
    return Given(sizes=[] if data is None else sizes_of(input_data), data=data, kwargs=kwargs)


def _is_array(value: Any) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "nbytes")


def has_tensor(kwargs: Mapping[str, Any]) -> bool:
    """Return whether a keyword argument is a tensor."""
    return any(isinstance(value, torch.Tensor) for value in kwargs.values())


def sizes_of(data: Any) -> Any:
    """Return data with each tensor and array replaced by its size."""
    if isinstance(data, torch.Tensor):
        return torch.Size(counted_shape(data)[0]) if data.is_nested else data.size()
    if isinstance(data, PackedSequence):  # cannot hold sizes in place of its tensors
        return data.data.size()
    if _is_array(data):
        return torch.Size(data.shape)
    if isinstance(data, Mapping):
        return {key: sizes_of(value) for key, value in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(sizes_of(item) for item in data))
    if isinstance(data, (list, tuple)):
        return type(data)(sizes_of(item) for item in data)
    return data


def _sizes(input_size: Any) -> list[Any]:
    """Return a list of sizes, one per input."""
    if not isinstance(input_size, (list, tuple)):
        raise TypeError(
            "Input_size is not a recognized type. Please ensure input_size is valid.\n"
            "For multiple inputs to the network, ensure input_size is a list of tuple sizes."
        )
    if not input_size or any(size <= 0 for size in _flat(input_size)):
        raise ValueError("Input_data is invalid, or negative size found in input_data.")
    if isinstance(input_size[0], (list, tuple)):
        return list(input_size)
    return [tuple(input_size)] if isinstance(input_size, list) else [input_size]


def _shape(size: Sequence[Any]) -> tuple[int, ...]:
    """Return the shape of one input; one more pair of brackets is taken off, as torch does."""
    nested = len(size) == 1 and isinstance(size[0], (list, tuple))
    return tuple(size[0] if nested else size)


def _flat(nested: Iterable[Any]) -> Iterator[Any]:
    for item in nested:
        if isinstance(item, (list, tuple)):
            yield from _flat(item)
        else:
            yield item


def _with_batch(size: tuple[int, ...], batch_dim: int | None) -> tuple[int, ...]:
    """Return a size with a batch of 1 where ``unsqueeze(batch_dim)`` would put it."""
    if batch_dim is None:
        return size
    position = batch_dim if batch_dim >= 0 else len(size) + 1 + batch_dim
    if not 0 <= position <= len(size):
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-len(size) - 1}, {len(size)}], "
            f"but got {batch_dim})"
        )
    return (*size[:position], 1, *size[position:])


def _dtypes(dtypes: Sequence[Any] | None, count: int) -> list[torch.dtype] | None:
    try:
        return dtypes_of(dtypes, count)
    except UsageError as error:
        raise ValueError(str(error)) from error
