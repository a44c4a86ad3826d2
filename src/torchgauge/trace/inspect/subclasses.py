"""Tensors that are more than numbers: a class of their own, tensors inside, attributes.

Three kinds of tensor have them. One carries data and has another class (``Params4bit``,
``GGUFParameter``, a subclass with ``__torch_function__``). One carries none and has tensors inside
(``__torch_dispatch__``: torchao's weights). And on each there may be attributes that its code
reads (``quant_state``, a user's mark).
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchgauge.trace.inspect.irregular import dense_parts, is_irregular
from torchgauge.trace.inspect.modules import cached_by_class, tensors_of
from torchgauge.trace.inspect.wrappers import is_of_distributed
from torchgauge.trace.torch_internals.modes import is_default_dispatch, without_torch_function
from torchgauge.trace.torch_internals.tensors import wrapper_subclass

_LEFT_TO_OTHERS = ("torch.distributed", "torch._subclasses")
"""Where wrapper classes live that the recorder knows how to see through, or that are unwrapped."""
ORDINARY = (torch.Tensor, nn.Parameter)
"""Classes of tensors that are numbers and nothing else."""
_MAX_DEPTH = 6
_NO_TENSORS = (
    nn.Module, type, types.FunctionType, types.MethodType, types.BuiltinFunctionType,
    types.ModuleType, weakref.ReferenceType, str, bytes, torch.device, torch.dtype,
)  # fmt: skip


@cached_by_class
def is_wrapper(kind: type) -> bool:
    """Return whether tensors of a class run their operators themselves, on tensors inside."""
    return not is_default_dispatch(kind) and not _is_left_to_others(kind)


@cached_by_class
def _is_left_to_others(kind: type) -> bool:
    return kind.__module__.startswith(_LEFT_TO_OTHERS)


def any_wrapper(kinds: Sequence[type]) -> bool:
    """Return whether an operator is to be run by the class of one of its arguments."""
    return any(kind not in ORDINARY and is_wrapper(kind) for kind in kinds)


def rebuilt(
    original: torch.Tensor,
    convert: Callable[[torch.Tensor], torch.Tensor],
    value: Callable[[Any], Any],
    device: torch.device,
) -> torch.Tensor:
    """Return a tensor of the same class, without the attributes of the original.

    ``convert`` copies data, ``value`` gives the copy of a tensor inside.
    """
    kind = type(original)
    with without_torch_function():
        requires_grad = original.requires_grad and original.is_leaf
        if original.is_nested and device.type == "meta":
            return convert(original)
        if is_wrapper(kind):
            copied = _wrapper(original, value, device)
            return copied.requires_grad_(requires_grad) if requires_grad else copied
        if _is_left_to_others(kind):
            kind = nn.Parameter if isinstance(original, nn.Parameter) else torch.Tensor
            plain = convert(original)
        elif kind in ORDINARY or is_lazy(original):
            plain = convert(original)
        else:
            plain = convert(original.as_subclass(torch.Tensor))
        if kind is torch.Tensor:
            return plain.requires_grad_(requires_grad)
        return torch.Tensor._make_subclass(kind, plain, requires_grad)


def _wrapper(
    original: torch.Tensor, value: Callable[[Any], Any], device: torch.device
) -> torch.Tensor:
    kind = type(original)
    size, stride = torch.Tensor.size(original), torch.Tensor.stride(original)
    flatten = getattr(original, "__tensor_flatten__", None)
    if flatten is None:
        return wrapper_subclass(original, device)
    names, context = flatten()
    inner = {name: value(getattr(original, name)) for name in names}
    unflatten: Callable[..., torch.Tensor] = kind.__tensor_unflatten__  # type: ignore[attr-defined]
    return unflatten(inner, _moved(context, device), size, stride)


def _moved(context: Any, device: torch.device) -> Any:
    """Return what a class keeps of a tensor besides its data, for another device."""
    if isinstance(context, torch.device):
        return device
    if type(context) is dict:
        return {key: _moved(item, device) for key, item in context.items()}
    if type(context) in (list, tuple):
        return type(context)(_moved(item, device) for item in context)
    return context


def copy_attributes(
    original: torch.Tensor, copied: torch.Tensor, value: Callable[[Any], Any]
) -> None:
    """Give a copy the attributes of its original that it does not have yet."""
    state = copied.__dict__
    for name, item in list(original.__dict__.items()):
        if name not in state:
            state[name] = value(item)
    for name in slots(type(original)):
        if hasattr(original, name) and not hasattr(copied, name):
            object.__setattr__(copied, name, value(getattr(original, name)))


def is_plain(parameter: torch.Tensor) -> bool:
    """Return whether an ordinary parameter is numbers in one block, with nothing attached."""
    return (
        parameter.dtype.is_floating_point
        and parameter.layout is torch.strided
        and not parameter.__dict__
        and not parameter.is_nested
    )


def has_attributes(tensor: torch.Tensor) -> bool:
    """Return whether anything is kept on a tensor besides its numbers."""
    kind = type(tensor)
    if kind in ORDINARY:
        return bool(tensor.__dict__)
    return not _is_left_to_others(kind)


@cached_by_class
def slots(kind: type) -> tuple[str, ...]:
    """Return the names of the attributes that a class and its bases keep in slots."""
    found: list[str] = []
    for base in kind.__mro__:
        names = base.__dict__.get("__slots__", ())
        found += (names,) if isinstance(names, str) else names
    return tuple(name for name in found if name not in ("__dict__", "__weakref__"))


def _slot_values(value: Any) -> list[Any]:
    return [getattr(value, name, None) for name in slots(type(value))]


def stored_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors with data that a tensor consists of; most often itself alone."""
    if is_irregular(tensor):
        return dense_parts(tensor)
    kind = type(tensor)
    if kind in ORDINARY or not is_wrapper(kind):
        return [tensor]
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        inside = [*tensor.__dict__.values(), *_slot_values(tensor)]
    else:
        inside = [getattr(tensor, name) for name in flatten()[0]]
    return [
        part for item in inside if isinstance(item, torch.Tensor) for part in stored_tensors(item)
    ]


def has_special_parameters(root: nn.Module) -> bool:
    """Return whether a parameter or buffer has a class of its own, whose code may ask for a device.

    Kernels that such a class chooses between, by ``x.device.type``, are those of the device.
    """
    held = tensors_of(root)
    kinds = {type(tensor) for tensors in held for tensor in tensors if not is_lazy(tensor)}
    return any(kind not in ORDINARY and not _is_left_to_others(kind) for kind in kinds)


def attached_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors with data that are kept in a tensor's attributes, not those inside it."""
    if not has_attributes(tensor):
        return []
    inside = {id(part) for part in stored_tensors(tensor)}
    found: dict[int, torch.Tensor] = {}
    seen: set[int] = {id(tensor)}
    for value in (*tensor.__dict__.values(), *_slot_values(tensor)):
        _collect(value, found, seen, 0)
    return [part for key, part in found.items() if key not in inside]


def tensors_held(value: Any) -> list[torch.Tensor]:
    """Return the tensors with data inside containers and objects."""
    found: dict[int, torch.Tensor] = {}
    _collect(value, found, set(), 0)
    return list(found.values())


def _collect(value: Any, found: dict[int, torch.Tensor], seen: set[int], depth: int) -> None:
    """Add the tensors inside containers and objects, those in modules and functions left out."""
    if value is None or id(value) in seen or isinstance(value, _NO_TENSORS) or depth > _MAX_DEPTH:
        return
    if is_of_distributed(type(value)):  # the ranks of a mesh are a tensor, but not a weight's
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        found.update((id(part), part) for part in stored_tensors(value))
        items = attached_tensors(value)
    elif isinstance(value, Mapping):
        items = list(value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        items = list(value)
    else:
        items = [*getattr(value, "__dict__", {}).values(), *_slot_values(value)]
    for item in items:
        _collect(item, found, seen, depth + 1)
