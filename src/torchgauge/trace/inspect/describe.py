"""Tensors and nested structures of them, as frozen specs."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch

from torchgauge.facts.trace import ArgumentValue, NamedValue, TensorSpec
from torchgauge.trace.inspect.irregular import counted_shape, dense_parts, is_irregular
from torchgauge.trace.inspect.packed_objects import is_packed, packed_tensors

_MAX_DEPTH = 12
_GRAPHS = ("Data", "DataBatch")
"""Graphs of PyTorch Geometric, which keep their tensors behind ``to_dict``."""


class SpecTable:
    """Makes one spec per (shape, dtype); equal tensors share it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._specs: dict[tuple[torch.Size, torch.dtype], TensorSpec] = {}
        self._named: dict[tuple[str, torch.Size, torch.dtype], NamedValue] = {}

    def of(self, tensor: torch.Tensor) -> TensorSpec:
        """Return the spec of a tensor."""
        if is_irregular(tensor):
            return self._irregular(tensor)
        return self.of_dense(tensor)

    def of_dense(self, tensor: torch.Tensor) -> TensorSpec:
        """Return the spec of a tensor that is neither sparse nor nested."""
        key = (tensor.shape, tensor.dtype)
        spec = self._specs.get(key)
        return self._make(key) if spec is None else spec

    def named(self, name: str, tensor: torch.Tensor) -> NamedValue:
        """Return a tensor under its name in a call; equal ones share it."""
        if is_irregular(tensor):
            return NamedValue(name=name, tensor=self._irregular(tensor))
        key = (name, tensor.shape, tensor.dtype)
        known = self._named.get(key)
        if known is None:
            known = self._named[key] = NamedValue(name=name, tensor=self.of_dense(tensor))
        return known

    def _irregular(self, tensor: torch.Tensor) -> TensorSpec:
        shape, stored = counted_shape(tensor)
        return TensorSpec(
            shape=shape,
            dtype=dtype_name(tensor.dtype),
            device=self.device,
            nbytes=sum(part.numel() * part.element_size() for part in dense_parts(tensor)),
            stored=stored,
        )

    def packed(self, value: Any) -> ArgumentValue:
        """Return the specs of the weights in a packed object; see ``packed.py``."""
        specs = tuple(
            TensorSpec(shape=t.shape, dtype=t.dtype, device=self.device, nbytes=t.stored_bytes)
            for t in packed_tensors(value)
            if t.name.startswith("weight")
        )
        return specs[0] if len(specs) == 1 else specs

    def _make(self, key: tuple[torch.Size, torch.dtype]) -> TensorSpec:
        shape, dtype = key
        spec = TensorSpec(
            shape=tuple(int(size) for size in shape),
            dtype=dtype_name(dtype),
            device=self.device,
            nbytes=shape.numel() * dtype.itemsize,
        )
        self._specs[key] = spec
        return spec


@lru_cache(maxsize=128)
def dtype_name(dtype: torch.dtype) -> str:
    """Return the dtype's name without prefix: ``float32``."""
    return str(dtype).removeprefix("torch.")


def argument(value: Any, specs: SpecTable) -> ArgumentValue:
    """Return an operator argument as plain data."""
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return value
    if isinstance(value, TensorSpec):
        return value
    if isinstance(value, torch.Tensor):
        return specs.of(value)
    if isinstance(value, (list, tuple)):
        return tuple(argument(item, specs) for item in value)
    if isinstance(value, torch.dtype):
        return dtype_name(value)
    if isinstance(value, (torch.SymInt, torch.SymFloat)):
        return str(value)
    if is_packed(value):
        return specs.packed(value)
    if callable(value):  # its text would hold an address
        return f"<{getattr(value, '__name__', type(value).__name__)}>"
    return str(value).removeprefix("torch.")


def call_inputs(
    names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any], specs: SpecTable
) -> tuple[NamedValue, ...]:
    """Return the leaves of a call's arguments, named by parameter and path."""
    leaves: list[NamedValue] = []
    for position, value in enumerate(args):
        name = names[position] if position < len(names) else str(position)
        _describe(name, value, specs, leaves, 0)
    for name, value in kwargs.items():
        _describe(name, value, specs, leaves, 0)
    return tuple(leaves)


def call_outputs(value: Any, specs: SpecTable) -> tuple[NamedValue, ...]:
    """Return the leaves of what a module returned; a bare tensor has the name ``"0"``."""
    if isinstance(value, torch.Tensor):
        return (specs.named("0", value),)
    leaves: list[NamedValue] = []
    fields = fields_of(value)
    if fields is None:
        _describe("0", value, specs, leaves, 0)
    else:
        for name, item in fields:
            _describe(name, item, specs, leaves, 1)
    return tuple(leaves)


def fields_of(value: Any) -> Iterator[tuple[str, Any]] | None:
    """Return the named children of a container, ``None`` for a leaf.

    Containers are mappings, lists, tuples (named ones by field), sets, dataclasses, and objects
    that keep tensors in their ``__dict__`` (graph batches, distributions).
    """
    if isinstance(value, Mapping):
        return ((str(key), item) for key, item in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return zip(value._fields, value, strict=True)
    if isinstance(value, (list, tuple, set, frozenset)):
        return ((str(index), item) for index, item in enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
    if type(value).__name__.endswith(_GRAPHS) and hasattr(value, "to_dict"):
        return ((str(key), item) for key, item in value.to_dict().items())
    if isinstance(value, (torch.nn.Module, str, bytes)) or callable(value):
        return None
    state = getattr(value, "__dict__", None)
    if state and any(isinstance(item, torch.Tensor) for item in state.values()):
        return ((name.lstrip("_"), item) for name, item in state.items())
    return None


def tensors_in(value: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """Yield every tensor inside a nested structure."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth < _MAX_DEPTH:
        fields = fields_of(value)
        if fields is not None:
            for _, item in fields:
                yield from tensors_in(item, depth + 1)


@lru_cache(maxsize=4096)
def parameter_names(forward: Callable[..., Any]) -> tuple[str, ...]:
    """Return the positional parameter names of a class's forward, without the first (``self``)."""
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        return ()
    names = tuple(
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    )
    return names[1:]


def _describe(
    name: str, value: Any, specs: SpecTable, leaves: list[NamedValue], depth: int
) -> None:
    if isinstance(value, torch.Tensor):
        leaves.append(specs.named(name, value))
        return
    fields = None if value is None or isinstance(value, (str, int, float)) else fields_of(value)
    if fields is not None and depth < _MAX_DEPTH:
        empty = True
        for key, item in fields:
            empty = False
            _describe(f"{name}.{key}" if depth or name else key, item, specs, leaves, depth + 1)
        if not empty:
            return
    leaves.append(NamedValue(name=name, text=_short(value)))


def _short(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, complex)):
        return str(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 20 else value[:17] + "...")
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value).removeprefix("torch.")
    if isinstance(value, (list, tuple, dict, set)):
        return f"{type(value).__name__} of {len(value)}"
    return f"<{type(value).__name__}>"


def dtype_named(name: str | None) -> torch.dtype | None:
    """Return the dtype of that name, ``None`` for none."""
    if name is None:
        return None
    dtype: torch.dtype = getattr(torch, name)
    return dtype
