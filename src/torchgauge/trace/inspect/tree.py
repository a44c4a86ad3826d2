"""The module tree and its parameters as frozen facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchgauge.facts.trace import ModuleInfo, ParameterInfo
from torchgauge.trace.inspect.bitsandbytes import quantization_states
from torchgauge.trace.inspect.describe import dtype_name
from torchgauge.trace.inspect.geometry import span_of
from torchgauge.trace.inspect.irregular import counted_shape, is_irregular
from torchgauge.trace.inspect.modules import tensors_of
from torchgauge.trace.inspect.packed_objects import PackedWeights
from torchgauge.trace.inspect.subclasses import (
    attached_tensors,
    is_plain,
    is_wrapper,
    stored_tensors,
    tensors_held,
)
from torchgauge.trace.torch_internals.modes import without_torch_function
from torchgauge.trace.torch_internals.tensors import storage_key


def walk(root: nn.Module) -> Iterator[tuple[str, nn.Module, str | None]]:
    """Yield ``(path, module, first path)`` in registration order, repeated modules included.

    The third item is ``None`` the first time that a module object appears, else its first path.
    What lies below a repeated module is not listed again.
    """
    first: dict[int, str] = {}
    stack: list[tuple[str, nn.Module]] = [("", root)]
    while stack:
        path, module = stack.pop()
        seen = first.get(id(module))
        yield path, module, seen
        if seen is not None:
            continue
        first[id(module)] = path
        prefix = f"{path}." if path else ""
        children = [
            (prefix + name, child) for name, child in module._modules.items() if child is not None
        ]
        stack.extend(reversed(children))


def module_infos(root: nn.Module, lazy: frozenset[str] = frozenset()) -> tuple[ModuleInfo, ...]:
    """Return every module with its own parameters and buffers.

    ``lazy`` holds the names of parameters that were uninitialized before the forward ran.
    """
    return inspected(root, lazy)[0]


def inspected(root: nn.Module, lazy: frozenset[str]) -> tuple[tuple[ModuleInfo, ...], bool]:
    """Return the same, and whether each tensor is known to be all of a storage of its own."""
    owners = _Owners(root)
    with without_torch_function():
        return tuple(_module_infos(root, owners, lazy)), owners.are_apart


def _module_infos(root: nn.Module, owners: _Owners, lazy: frozenset[str]) -> Iterator[ModuleInfo]:
    for path, module, shared_with in walk(root):
        yield ModuleInfo(
            path=path,
            type=type_name(module),
            depth=path.count(".") + 1 if path else 0,
            parameters=() if shared_with is not None else owners.parameters(path, module, lazy),
            shared_with=shared_with,
            has_forward=has_forward(module),
        )


def holds_quantized(root: nn.Module, modules: Iterable[ModuleInfo]) -> bool:
    """Return whether a parameter is stored in fewer bits than it is computed with.

    An expanded or a sparse one stores fewer bytes as well: its class runs no operators itself.
    """
    plain: set[str] | None = None
    for item in (item for module in modules for item in module.parameters):
        if item.is_buffer or not item.numel:
            continue
        if not item.dtype.startswith(("float", "bfloat", "complex")) or "float8" in item.dtype:
            return True
        if item.stored_bytes < item.numel * getattr(torch, item.dtype).itemsize:
            if plain is None:
                named = root.named_parameters()
                plain = {name for name, tensor in named if not is_wrapper(type(tensor))}
            if item.name not in plain:
                return True
    return False


def lazy_names(root: nn.Module) -> frozenset[str]:
    """Return the names of parameters that have no shape yet."""
    return frozenset(
        f"{path}.{name}" if path else name
        for path, module, shared in walk(root)
        if shared is None
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None and is_lazy(tensor)
    )


def type_name(module: nn.Module) -> str:
    """Return the class name a reader knows: scripted modules by their original name."""
    if isinstance(module, torch.jit.ScriptModule):
        original = getattr(module, "original_name", None)
        if isinstance(original, str):
            return original
    return type(module).__name__


def has_forward(module: nn.Module) -> bool:
    """Return whether a module can be called at all."""
    if isinstance(module, torch.jit.ScriptModule):
        return True
    return type(module).forward is not nn.Module.forward or "forward" in module.__dict__


class _Owners:
    """Finds out which names stand for the same tensor, and what each one stores."""

    def __init__(self, root: nn.Module) -> None:
        self._names: dict[Any, str] = {}
        self._packed = PackedWeights()
        self._root = root
        self._storages: set[int] = set()
        self.are_apart = True
        """Whether all tensors so far are plain ones, each all of a storage that no other has."""

    @cached_property
    def _attached(self) -> set[Any]:
        """Tensors that a name stands for; what is attached to several names counts once."""
        return {
            place_of(part)
            for tensors in tensors_of(self._root)
            for tensor in tensors
            if not is_lazy(tensor)
            for part in stored_tensors(tensor)
        }

    def parameters(
        self, path: str, module: nn.Module, lazy: frozenset[str]
    ) -> tuple[ParameterInfo, ...]:
        prefix = f"{path}." if path else ""
        found: list[ParameterInfo] = []
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _own(module, kind).items():
                if tensor is None:
                    continue
                full = prefix + name
                if type(tensor) is nn.Parameter and is_plain(tensor):
                    found.append(self._plain_info(full, tensor, is_lazy=full in lazy))
                else:
                    is_buffer = kind == "_buffers"
                    found.append(self._info(full, tensor, module, name, is_buffer, lazy))
        if self._packed.has(module):
            found += [
                ParameterInfo(
                    name=name,
                    shape=packed.shape,
                    dtype=packed.dtype,
                    numel=prod(packed.shape),
                    stored_bytes=packed.stored_bytes,
                    trainable=False,
                )
                for name, packed in self._packed.of(path, module)
            ]
        return tuple(found)

    def _info(
        self,
        name: str,
        tensor: torch.Tensor,
        module: nn.Module,
        short: str,
        is_buffer: bool,
        lazy: frozenset[str],
    ) -> ParameterInfo:
        self.are_apart = False  # it is not looked at
        if is_lazy(tensor):
            return ParameterInfo(
                name=name, shape=(), dtype=dtype_name(tensor.dtype), numel=0, stored_bytes=0,
                trainable=not is_buffer, is_buffer=is_buffer, is_lazy=True,
            )  # fmt: skip
        shared_with = self._names.setdefault(_identity(tensor), name)
        attached = attached_tensors(tensor)
        if short == "weight":
            attached += [t for s in quantization_states(module) for t in tensors_held(s)]
        shape = _logical_shape(tensor, module, short)
        # GPTQ and AWQ register packed weights as buffers; they are parameters all the same.
        is_buffer = is_buffer and shape == tuple(tensor.shape)
        return ParameterInfo(
            name=name,
            shape=shape,
            dtype=dtype_name(tensor.dtype),
            numel=prod(shape),
            stored_bytes=sum(map(own_bytes, stored_tensors(tensor)))
            + self._attached_bytes(attached),
            trainable=bool(tensor.requires_grad) and not is_buffer,
            is_buffer=is_buffer,
            shared_with=None if shared_with == name else shared_with,
            is_lazy=name in lazy,
        )

    def _plain_info(self, name: str, tensor: torch.Tensor, *, is_lazy: bool) -> ParameterInfo:
        """Return what a parameter is that nothing is attached to."""
        storage, span, dtype = tensor.untyped_storage(), span_of(tensor), tensor.dtype
        key, shape = storage_key(storage), tensor.shape
        numel = shape.numel()
        shared_with = self._names.setdefault((key, span, numel, dtype), name)
        if key in self._storages or span != (0, storage.nbytes()) or not tensor.is_contiguous():
            self.are_apart = False
        self._storages.add(key)
        return ParameterInfo(
            name=name,
            shape=tuple(shape),
            dtype=dtype_name(dtype),
            numel=numel,
            stored_bytes=min(numel * dtype.itemsize, span[1] - span[0]),
            trainable=tensor.requires_grad,
            is_buffer=False,
            shared_with=None if shared_with == name else shared_with,
            is_lazy=is_lazy,
        )

    def _attached_bytes(self, parts: Iterable[torch.Tensor]) -> int:
        """Return the bytes of what a tensor keeps in attributes and nothing before it has kept."""
        total = 0
        for part in parts:
            place = place_of(part)
            if place not in self._attached:
                self._attached.add(place)
                total += own_bytes(part)
        return total


def _own(module: nn.Module, kind: str) -> dict[str, torch.Tensor | None]:
    """Return a module's own tensors; scripted modules keep them out of ``__dict__``."""
    if isinstance(module, torch.jit.ScriptModule):
        pairs = (
            module.named_parameters(recurse=False)
            if kind == "_parameters"
            else module.named_buffers(recurse=False)
        )
        return dict(pairs)
    return module.__dict__.get(kind) or {}


def _identity(tensor: torch.Tensor) -> Any:
    """Return what two names share when they are the same numbers in the same place."""
    return id(tensor) if is_wrapper(type(tensor)) else place_of(tensor)


def place_of(tensor: torch.Tensor) -> Any:
    """Return what two tensors share that are the same numbers in the same place."""
    if is_irregular(tensor):
        return id(tensor)
    storage = tensor.untyped_storage()
    return (storage_key(storage), span_of(tensor), tensor.numel(), tensor.dtype)


def _logical_shape(tensor: torch.Tensor, module: nn.Module, name: str) -> tuple[int, ...]:
    """Return the shape that a packed parameter stands for, else its own.

    Known packings: bitsandbytes 4-bit (``Params4bit.quant_state.shape``), whole numbers that carry
    their shape in an attribute (GGUF in diffusers and ComfyUI) or in ``meta`` (HQQ), and the GPTQ /
    AWQ layout (int32 ``qweight`` with ``in_features`` and ``out_features``).
    """
    if tensor.is_nested:
        return counted_shape(tensor)[0]
    own = tuple(int(size) for size in tensor.shape)
    if tensor.dtype.is_floating_point and getattr(tensor, "quant_state", None) is None:
        return own
    meta = tensor.__dict__.get("meta")
    for packed in (
        getattr(getattr(tensor, "quant_state", None), "shape", None),
        *(tensor.__dict__.get(attribute) for attribute in _SHAPES),
        meta.get("shape") if isinstance(meta, dict) else None,
    ):
        if isinstance(packed, (tuple, list)) and packed and all(map(_is_size, packed)):
            return tuple(int(size) for size in packed)
    if name == "qweight" and tensor.dtype == torch.int32:
        features = (getattr(module, "out_features", None), getattr(module, "in_features", None))
        if all(isinstance(size, int) for size in features):
            return features  # type: ignore[return-value]
    return own


def is_packed_buffer(root: nn.Module, name: str, tensor: torch.Tensor) -> bool:
    """Return whether a buffer is a packed weight, which counts as a parameter."""
    if tensor.dtype.is_floating_point or is_lazy(tensor):
        return False
    path, _, short = name.rpartition(".")
    try:
        module = root.get_submodule(path)
    except (AttributeError, RuntimeError):  # scripted modules refuse
        return False
    return _logical_shape(tensor, module, short) != tuple(tensor.shape)


_SHAPES = ("quant_shape", "tensor_shape", "logical_shape", "original_shape", "orig_shape")
"""Attributes in which libraries keep the shape that packed bytes stand for."""


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def own_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes that a tensor reads of its storage."""
    start, end = span_of(tensor)
    return min(tensor.numel() * tensor.element_size(), end - start)  # less where expanded
