"""What wraps a model: how to reach the user's module, its class and its own hooks behind it.

What a run copies is the user's model. Wrappers that compile, replicate, shard or offload it are
left out of it: DataParallel, DistributedDataParallel, FSDP1, FSDP2, DTensor's tensor parallelism,
accelerate's offloading. Nothing here imports them; who uses one has imported it.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Mapping
from typing import Any

from torch import nn

from torchgauge.trace.inspect.modules import cached_by_class
from torchgauge.trace.torch_internals.structures import unwrap_compiled

_WRAPPING = (
    ("torch.nn.parallel.data_parallel", "DataParallel", "module"),
    ("torch.nn.parallel.distributed", "DistributedDataParallel", "module"),
    ("torch.distributed.fsdp", "FullyShardedDataParallel", "_fsdp_wrapped_module"),
)
"""Module and name of each wrapper's class, and where it keeps what it wraps (2.6–2.13)."""
_COMPOSED = ("torch.distributed.fsdp", "torch.distributed._composable")
"""Where ``fully_shard`` and ``replicate`` make a subclass of the user's class (2.6–2.13)."""
_DISTRIBUTED = ("torch.distributed.", "torch.nn.parallel.")
COMPOSED_STATE = "__composable_api_state_key"
"""Beginning of the attributes that they add to a module besides hooks (2.6–2.13)."""
_MOVING_HOOKS = ("AlignDevicesHook", "CpuOffload")
"""Hooks of accelerate that only move weights and inputs between devices (1.x)."""
_MOVING_METHODS = ("to", "cuda", "npu", "xpu", "mlu", "sdaa", "musa", "neuron")
"""Methods that ``accelerate.dispatch_model`` replaces by ones that refuse to move weights."""


def unwrap(module: nn.Module) -> nn.Module:
    """Return the user's module behind ``torch.compile``, DataParallel, DDP and FSDP wrappers."""
    while True:
        inner = unwrap_compiled(module)
        if inner is module:
            name = wrapped_as(module)
            inner = module if name is None else module._modules.get(name) or module
        if inner is module:
            return module
        module = inner


def wrapped_as(module: nn.Module) -> str | None:
    """Return under which name a wrapper keeps what it wraps, ``None`` for other modules."""
    return wraps_as(type(module))


@cached_by_class
def wraps_as(kind: type) -> str | None:
    """Return the same of a class."""
    for place, class_name, name in _WRAPPING:
        wrapper = getattr(sys.modules.get(place), class_name, None)
        if wrapper is not None and issubclass(kind, wrapper):
            return name
    return None


@cached_by_class
def user_class(kind: type) -> type:
    """Return the user's class behind the one that ``fully_shard`` or ``replicate`` made of it."""
    if not any(base.__module__.startswith(_COMPOSED) for base in kind.__mro__[:2]):
        return _OneProcessBatchNorm if kind is nn.SyncBatchNorm else kind
    return next(base for base in kind.__mro__ if not base.__module__.startswith(_COMPOSED))


def distributes(hook: Any) -> bool:
    """Return whether a hook or method is torch's own: it gathers, frees, shards or communicates."""
    while isinstance(hook, functools.partial):
        hook = hook.func
    owner = getattr(hook, "__self__", None)
    if is_of_distributed(type(owner)):
        return True
    function = getattr(hook, "__func__", hook)
    return str(getattr(function, "__globals__", {}).get("__name__", "")).startswith(_DISTRIBUTED)


@cached_by_class
def is_of_distributed(kind: type) -> bool:
    """Return whether a class is one of meshes, process groups and wrappers, which have no copy."""
    place = str(getattr(kind, "__module__", ""))
    return place.startswith((*_DISTRIBUTED, "torch._C._distributed"))


def own_attributes(module: nn.Module) -> Mapping[str, Any]:
    """Return a module's attributes as they were before FSDP2 and accelerate added theirs.

    ``register_fsdp_forward_method`` puts a method that gathers in place of the user's.

    ``add_hook_to_module`` keeps the forward as ``_old_forward`` and puts one that runs
    ``_hf_hook`` around it in its place. A hook that does more than move tensors stays.
    """
    attributes: Mapping[str, Any] = module.__dict__
    has_methods = types.MethodType in map(type, attributes.values())
    if has_methods and any(
        distributes(value) for value in attributes.values() if type(value) is types.MethodType
    ):
        attributes = {
            name: value
            for name, value in attributes.items()
            if type(value) is not types.MethodType or not distributes(value)
        }
    if "_hf_hook" not in attributes or "_old_forward" not in attributes:
        return attributes
    state = {
        name: value
        for name, value in attributes.items()
        if name not in _MOVING_METHODS or not _is_of_accelerate(value)
    }
    kept = [hook for hook in _single_hooks(state["_hf_hook"]) if not _moves(hook)]
    if kept:
        state["_hf_hook"] = kept[0] if len(kept) == 1 else type(state["_hf_hook"])(*kept)
        return state
    del state["_hf_hook"]
    old = state.pop("_old_forward")
    state.pop("forward", None)
    if getattr(old, "__func__", None) is not type(module).forward:
        state["forward"] = old
    return state


def has_composed_state(module: nn.Module) -> bool:
    """Return whether ``fully_shard`` or ``replicate`` has added such attributes."""
    if _COMPOSED[1] not in sys.modules:  # no model can have called them
        return False
    return COMPOSED_STATE in "\n".join(module.__dict__)  # one search, not one for each name


def offloading_hooks(module: nn.Module) -> list[Any]:
    """Return the hooks of accelerate that keep weights of this module elsewhere."""
    if "_hf_hook" not in module.__dict__:
        return []
    hooks = _single_hooks(module.__dict__["_hf_hook"])
    return [hook for hook in hooks if _moves(hook) and getattr(hook, "weights_map", None)]


def _single_hooks(hook: Any) -> list[Any]:
    if hook is None:
        return []
    if type(hook).__name__ == "SequentialHook":
        return [single for part in hook.hooks for single in _single_hooks(part)]
    return [hook]


def _moves(hook: Any) -> bool:
    kind = type(hook)
    return kind.__module__ == "accelerate.hooks" and kind.__name__ in _MOVING_HOOKS


def _is_of_accelerate(value: Any) -> bool:
    if not isinstance(value, types.FunctionType):
        return False
    return str(value.__globals__.get("__name__", "")).startswith("accelerate.")


class _OneProcessBatchNorm(nn.SyncBatchNorm):
    """Batch norm on one rank: the synchronised one asks for a GPU as soon as it trains."""

    forward = nn.modules.batchnorm._BatchNorm.forward


_OneProcessBatchNorm.__name__ = _OneProcessBatchNorm.__qualname__ = "SyncBatchNorm"
