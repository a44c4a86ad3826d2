"""Hooks on parameters run in an analysis too, on the copy: what they free and update counts.

An optimizer in the backward is the usual one: ``register_post_accumulate_grad_hook`` with a
function that steps an optimizer of one parameter and drops its gradient. Such a function
finds the optimizer in a closure, in an object, in a global name or in an attribute of a class. The
copy's hook is a copy of the function. What it reaches by name outside of the model is replaced by
copies while the step runs, and put back after it. Hooks of ``torch.distributed`` do not run.
"""

from __future__ import annotations

import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from torchgauge.trace.copy.meta_copy import ModelCopy
from torchgauge.trace.inspect.irregular import is_irregular
from torchgauge.trace.inspect.subclasses import ORDINARY, slots
from torchgauge.trace.inspect.wrappers import distributes, is_of_distributed
from torchgauge.trace.isolate.left_behind import Outside
from torchgauge.trace.isolate.places import MappingPlace, attributes_of, items_of
from torchgauge.trace.python.threads import is_of_threads
from torchgauge.trace.torch_internals.autograd import (
    POST_ACCUMULATE_HOOKS,
    TENSOR_HOOKS,
    gradient_node,
    gradient_nodes,
    hooks_of_nodes,
    node_hooks,
)
from torchgauge.trace.torch_internals.kernels import list_kernels_on_meta

_OF_ONE_PROCESS = "torch.distributed.optim.apply_optimizer_in_backward"
"""The one place of ``torch.distributed`` whose hooks communicate nothing (2.6–2.13)."""
_DEPTH = 8
_SMALL = 4096
"""Items up to which a container that holds no tensors is copied as well."""
_MISSING = object()
_CONTAINERS = (dict, list, set)

Around = Callable[[Callable[..., Any]], Callable[..., Any]]


def _has_node(original: torch.Tensor, copied: torch.Tensor) -> bool:
    """Return whether a leaf is not lazy, nor of a kind that may not have a view of itself."""
    kinds = type(original) in ORDINARY and type(copied) in ORDINARY
    return kinds and not is_irregular(original)


class ParameterHooks:
    """The hooks of a copy's parameters, for as long as ``running`` is open.

    Without a ``model`` there are none. ``foreach`` says whether optimizers that leave it open go
    over lists of tensors. ``around`` wraps each hook.
    """

    def __init__(
        self, model: ModelCopy | None, *, foreach: bool = False, around: Around | None = None
    ) -> None:
        self._around = around or (lambda hook: hook)
        self._nodes: list[Any] = []
        self._replaced: list[tuple[MappingPlace, Any, Any]] = []
        self._outside: list[MappingPlace] = []
        self._failed: BaseException | None = None
        self.originals: list[Any] = []
        """The user's hooks, and what they are made of."""
        self.optimizers: list[torch.optim.Optimizer] = []
        """The copies of optimizers that hooks may step."""
        self.tensors: list[torch.Tensor] = []
        """The copies of tensors that only hooks refer to."""
        self.assumptions: list[str] = []
        self.warnings: list[str] = []
        leaves = [
            (original, copied, _has_node(original, copied))
            for original, copied in (() if model is None else model.leaves)
            if original.requires_grad and copied.requires_grad
            if original.is_leaf and copied.is_leaf
        ]
        nodes = gradient_nodes([original for original, _, has_node in leaves if has_node])
        on_nodes = iter(hooks_of_nodes(nodes))
        hooked = [
            found
            for original, copied, has_node in leaves
            if (found := self._hooks(original, copied, next(on_nodes) if has_node else []))
        ]
        if model is not None and hooked:
            self._copy(model, hooked, foreach=foreach)

    def _hooks(
        self, original: torch.Tensor, copied: torch.Tensor, on_node: list[dict[int, Any]]
    ) -> list[tuple[Any, Any]]:
        """Return where a leaf's hooks are kept, each with the copy's own place, still empty.

        ``on_node`` are those of the node that accumulates its gradient.
        """
        pairs: list[tuple[Any, Any]] = []
        for name in (TENSOR_HOOKS, POST_ACCUMULATE_HOOKS):
            hooks = getattr(original, name, None)
            if hooks and any(map(_is_own, hooks.values())):
                setattr(copied, name, OrderedDict())
                pairs.append((hooks, getattr(copied, name)))
        if any([_is_own(hook) for hooks in on_node if hooks for hook in hooks.values()]):
            self._nodes.append(gradient_node(copied))  # keeps it
            pairs += zip(on_node, node_hooks(gradient_node(copied)), strict=True)
        return pairs

    def _copy(
        self, model: ModelCopy, hooked: list[list[tuple[Any, Any]]], *, foreach: bool
    ) -> None:
        pairs = [pair for found in hooked for pair in found]
        for hooks, given in pairs:
            model.stand_for(hooks, given)  # a handle that removes a hook finds it here
            for hook in filter(_is_own, hooks.values()):
                self.originals += [hook, *items_of(hook), getattr(hook, "__self__", None)]
        self._outside = Outside(None, self.originals).namespaces
        shared, tensors = len(model.shared), len(model.tensors)
        for hooks, given in pairs:
            own = {key: hook for key, hook in hooks.items() if _is_own(hook)}
            given.update({key: self._guarded(_copied(hook, model)) for key, hook in own.items()})
        for place in self._outside:
            for name, value in place.before.items():
                if _is_to_copy(value, model):
                    self._replaced.append((place, name, model.value(value)))
        count = f"{len(hooked)} parameters" if len(hooked) > 1 else "a parameter"
        unsafe = next((item for item in model.shared[shared:] if _holds(item, model)), None)
        if unsafe is not None:
            self._replaced, self._outside = [], []
            for _, given in pairs:
                given.clear()
            self.warnings.append(
                f"hooks on {count} do not run in this analysis, because a "
                f"{type(unsafe).__name__} that they use cannot be copied: gradients that they "
                "free or optimizers that they step are not in the figures"
            )
            return
        self.optimizers, self.tensors = list(model.optimizers), model.tensors[tensors:]
        for optimizer in self.optimizers:
            _choose(optimizer, foreach=foreach)
        self.assumptions.append(
            f"hooks on {count} ran on the copy in the backward, with copies of what they use"
        )

    def _guarded(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        around = self._around(hook)

        def guarded(*args: Any) -> Any:
            try:
                with list_kernels_on_meta():
                    return around(*args)
            except BaseException as error:
                self._failed = self._failed or error
                raise

        return guarded

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the names outside of the model that hooks reach mean the copies.

        What hooks give such names is put back as well, and is there again the next time.
        """
        for place, name, value in self._replaced:
            place.put(name, value)
        try:
            yield
        finally:
            self._replaced = [
                (place, name, value)
                for place in self._outside
                for name, value in place.read().items()
                if value is not place.before.get(name, _MISSING)
            ]
            for place, name, _ in self._replaced:
                if name in place.before:
                    place.put(name, place.before[name])
                else:
                    place.remove(name)

    def hint(self, error: BaseException) -> str:
        """Return the hint for a failure that came from a hook, ``""`` for others."""
        if error is not self._failed:
            return ""
        return (
            "a hook on a parameter raised this; hooks run on a copy of the model, so one that "
            "finds the model's tensors by other means than the tensors themselves may fail; "
            "remove it before the analysis: handle.remove()"
        )


def _is_own(hook: Any) -> bool:
    """Return whether a hook is neither FSDP's nor DDP's nor another that communicates."""
    return getattr(hook, "__module__", None) == _OF_ONE_PROCESS or not distributes(hook)


def _copied(hook: Any, model: ModelCopy) -> Any:
    """Return the copy of a hook; ``captured.append`` is one, too."""
    owner = getattr(hook, "__self__", None)
    if type(hook) is types.BuiltinFunctionType:
        plain = owner is None or isinstance(owner, types.ModuleType)
        return hook if plain else getattr(model.value(owner), hook.__name__)
    return model.value(hook)


def _choose(optimizer: torch.optim.Optimizer, *, foreach: bool) -> None:
    """Let an optimizer take lists where that is the default of the device."""
    for group in optimizer.param_groups:
        if "foreach" in group and group["foreach"] is None and not group.get("fused"):
            group["foreach"] = foreach


def _is_to_copy(value: Any, model: ModelCopy) -> bool:
    """Return whether a value outside of the model is part of what hooks change."""
    kind = type(value)
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType, str, bytes)):
        return False
    if is_of_distributed(kind) or is_of_threads(kind):
        return False
    return (kind in _CONTAINERS and len(value) <= _SMALL) or _holds(value, model)


def _holds(value: Any, model: ModelCopy, depth: int = 0, seen: set[int] | None = None) -> bool:
    """Return whether a value holds a tensor, a module, an optimizer, or the identity of one."""
    seen = set() if seen is None else seen
    if isinstance(value, (torch.Tensor, nn.Module, torch.optim.Optimizer)):
        return True
    if type(value) is int:
        return model.knows_identity(value)
    if depth > _DEPTH or id(value) in seen:
        return False
    if isinstance(value, (type, types.ModuleType, str, bytes)):
        return False
    seen.add(id(value))
    if isinstance(value, weakref.ReferenceType):
        return _holds(value(), model, depth, seen)
    keys = dict.keys(value) if isinstance(value, dict) else ()
    in_slots = [getattr(value, name, None) for name in slots(type(value))]
    held = (*keys, *items_of(value), *attributes_of(value).values(), *in_slots)
    return any(_holds(item, model, depth + 1, seen) for item in held)
