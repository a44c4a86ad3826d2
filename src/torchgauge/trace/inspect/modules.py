"""The modules and tensors of a model as lists: PyTorch's own walks are generators in generators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeVar

import torch
from torch import nn

Answer = TypeVar("Answer")


def cached_by_class(function: Callable[[type], Answer]) -> Callable[[type], Answer]:
    """Let a function of a class look only once at each; models have many objects of few."""
    return lru_cache(maxsize=4096)(function)


_INERT = frozenset(
    (bool, int, float, str, tuple, type(None), torch.dtype, torch.device, torch.Tensor)
)


def is_leaf_of_torch(module: nn.Module) -> bool:
    """Return whether a forward is PyTorch's own and reaches no function of others.

    A layer of ``torch.nn`` without children, whose attributes are numbers and tensors. Hooks run
    around the forward, parametrizations have a class of their own.
    """
    state = module.__dict__
    return (
        _is_of_torch(type(module))
        and not module._modules
        and _INERT.issuperset([type(state[name]) for name in state.keys() - STATE])
    )


def only_calls_modules(module: nn.Module) -> bool:
    """Return whether a forward calls modules and no other function that is not PyTorch's own.

    A ``Sequential`` whose children have no hooks: those would run between their forwards.
    """
    return type(module) is nn.Sequential and all(map(is_called_alone, module._modules.values()))


def is_called_alone(module: nn.Module | None) -> bool:
    """Return whether a call of a module runs its forward and nothing around it."""
    if module is None or not _is_called_as_usual(type(module)):
        return False
    return not any(map(module.__dict__.get, _HOOKS))


_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


@cached_by_class
def _is_called_as_usual(kind: type[nn.Module]) -> bool:
    names = ("__call__", "_wrapped_call_impl", "_call_impl", "__getattribute__")
    return all(getattr(kind, name) is getattr(nn.Module, name) for name in names)


@cached_by_class
def _is_of_torch(kind: type) -> bool:
    return kind.__module__.startswith("torch.nn.modules.")


STATE = frozenset(nn.Module().__dict__)
"""What every module has: its tensors, its hooks, its children."""


def set_mode(root: nn.Module, *, training: bool) -> None:
    """Do what ``root.train(training)`` does.

    Raises:
        RecursionError: a module contains itself.
    """
    if _has_circle(root):
        raise RecursionError("a module contains itself")
    modules = modules_of(root)
    if not all(map(_is_set_as_usual, {type(module) for module in modules})):
        root.train(training)
        return
    for module in modules:
        module.__dict__["training"] = training


def _has_circle(root: nn.Module) -> bool:
    """Return whether a module is among those below it."""
    above, left = {id(root)}, {id(root)}
    way = [(root, iter(root._modules.values()))]
    while way:
        module, children = way[-1]
        for child in children:
            if id(child) in above:
                return True
            if child is not None and child._modules and id(child) not in left:
                above.add(id(child))
                left.add(id(child))
                way.append((child, iter(child._modules.values())))
                break
        else:
            above.discard(id(module))
            way.pop()
    return False


@cached_by_class
def _is_set_as_usual(kind: type[nn.Module]) -> bool:
    names = ("train", "__setattr__", "children", "named_children", "_modules")
    return not hasattr(kind, "training") and all(
        getattr(kind, name, None) is getattr(nn.Module, name, None) for name in names
    )


class Held(NamedTuple):
    """The tensors that the modules of a model have registered, each once."""

    parameters: list[torch.Tensor]
    buffers: list[torch.Tensor]


def modules_of(root: nn.Module) -> list[nn.Module]:
    """Return what ``root.modules()`` yields: each module once, parents before their children."""
    found = {id(root): root}
    open_modules = [iter(root._modules.values())]
    while open_modules:
        for child in open_modules[-1]:
            if child is not None and id(child) not in found:
                found[id(child)] = child
                if child._modules:
                    open_modules.append(iter(child._modules.values()))
                    break
        else:
            open_modules.pop()
    return list(found.values())


def tensors_of(root: nn.Module) -> Held:
    """Return what ``root.parameters()`` and ``root.buffers()`` yield."""
    modules = modules_of(root)
    return Held(
        _once(module._parameters for module in modules),
        _once(module._buffers for module in modules),
    )


def _once(found: Iterable[Mapping[str, torch.Tensor | None]]) -> list[torch.Tensor]:
    named = (tensors.values() for tensors in found if tensors)
    return list({id(one): one for some in named for one in some if one is not None}.values())
