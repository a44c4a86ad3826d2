"""Indices written as lists, whose values never pass the recorder.

``ids[:, [-1, 0]]`` makes its index inside of the indexing itself, on the device of ``ids``: on the
meta device without values, and without an operator that could be followed.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from torchgauge.trace.torch_internals.modes import without_modes
from torchgauge.trace.values.values import ValueStore

_INDEXING = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)
_SEQUENCES = (list, tuple, range)
_MANY = 32
"""From this length on a list is one index, whatever is in it (``treatSequenceAsTuple`` in
PyTorch's ``torch/csrc/autograd/python_variable_indexing.cpp``, 2.6–2.13)."""


class ListIndicesKnown(TorchFunctionMode):
    """Keep the values of lists that index meta tensors while the mode is active.

    A mode, because a replaced ``Tensor.__getitem__`` makes Python take tensors for sequences, and
    that remains when it is put back. It costs time on every function of PyTorch, so that only a
    run that has lost such values is repeated with it.
    """

    def __init__(self, values: ValueStore) -> None:
        super().__init__()
        self._values = values

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function; an index in it that is written as a list becomes a tensor."""
        if func in _INDEXING and _has_sequence(args[1]) and args[0].is_meta:
            args = (args[0], _known(args[1], self._values), *args[2:])
        return func(*args, **(kwargs or {}))


def _has_sequence(index: Any) -> bool:
    kind = type(index)
    if kind is tuple:
        return any([isinstance(item, _SEQUENCES) for item in index])
    return kind is not torch.Tensor and isinstance(index, _SEQUENCES)


def _known(index: Any, values: ValueStore) -> Any:
    """Return the index with every sequence of numbers as a meta tensor of known values."""
    if isinstance(index, tuple):
        return tuple(_tensor(item, values) for item in index)
    if len(index) < _MANY and any(map(_is_index, index)):
        if not _nested_lists_are_tuples():
            return index if _holds_more_than_numbers(index) else _tensor(index, values)
        return tuple(_tensor(item, values) for item in index)
    return _tensor(index, values)


def _is_index(item: Any) -> bool:
    return item is None or item is ... or isinstance(item, (slice, torch.Tensor, *_SEQUENCES))


def _holds_more_than_numbers(item: Any) -> bool:
    if isinstance(item, _SEQUENCES):
        return any(map(_holds_more_than_numbers, item))
    return item is None or item is ... or isinstance(item, slice)


def _tensor(item: Any, values: ValueStore) -> Any:
    """Return a sequence as a meta tensor; anything else as it is."""
    if not isinstance(item, _SEQUENCES):
        return item
    if _holds_tensors(item):
        return _joined(item, values)
    with without_modes():
        try:
            known = torch.tensor(item, device="cpu")
        except (TypeError, ValueError, RuntimeError):
            return item
        if known.numel() == 0:
            known = known.to(torch.int64)
        if known.is_floating_point() or known.is_complex():
            return item
        meta = torch.empty_like(known, device="meta")
        values.set(meta, known)
    return meta


def _joined(items: Any, values: ValueStore) -> Any:
    """Return tensors of one number each, as UDOP lists them, as one tensor of known values."""
    if not all(isinstance(i, torch.Tensor) and i.dim() == 0 and i.is_meta for i in items):
        return items
    with without_modes():
        found = [values.get(item) for item in items]
        numbers = [number for number in found if number is not None]
        if len(numbers) < len(items) or any(n.dtype != torch.int64 for n in numbers):
            return items
        known = torch.stack(numbers)
        meta = torch.empty_like(known, device="meta")
        values.set(meta, known, origins=values.origins_of(*items))
    return meta


def _holds_tensors(item: Any) -> bool:
    if isinstance(item, _SEQUENCES):
        return any(map(_holds_tensors, item))
    return isinstance(item, torch.Tensor)


@functools.cache
def _nested_lists_are_tuples() -> bool:
    """Return whether ``x[[[0, 1], [1, 0]]]`` means ``x[[0, 1], [1, 0]]``, as it did at first."""
    with without_modes(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probe = torch.zeros((2, 2), device="cpu")[[[0, 1], [1, 0]]]
    return probe.dim() == 1
