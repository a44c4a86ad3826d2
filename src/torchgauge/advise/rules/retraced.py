"""A module as a graph of its own code, by ``torch.fx``; its children stay as they are."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from torchgauge.facts.trace import ModuleCall


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def given_tensors(call: ModuleCall) -> tuple[str, ...]:
    """Return the names of the arguments that were tensors."""
    return tuple(value.name for value in call.inputs if value.tensor is not None)


def graph_of(module: nn.Module, given: tuple[str, ...]) -> fx.Graph:
    """Return what the code of a module does when it gets these arguments.

    Raises:
        ValueError: its forward takes any arguments.
        Exception: whatever its code does with a proxy.
    """
    concrete: dict[str, Any] = {}
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ValueError("its forward takes any arguments")
        if parameter.default is not parameter.empty and name not in given:
            concrete[name] = parameter.default
    return _Tracer().trace(_copied(module), concrete)


def module_of(
    module: nn.Module, graph: fx.Graph, more: Mapping[str, nn.Module] | None = None
) -> fx.GraphModule:
    """Return a module that runs a graph, with the parameters of another one by the same names.

    Raises:
        ValueError: the names would differ.
    """
    root: dict[str, Any] = {name: child for name, child in module.named_modules() if name}
    root |= dict(module.named_parameters()) | dict(module.named_buffers()) | dict(more or {})
    made = fx.GraphModule(root, graph, class_name=type(module).__name__)
    made.graph.eliminate_dead_code()
    made.recompile()
    for name, child in module.named_children():
        if name not in made._modules:
            made.add_module(name, child)
    made._non_persistent_buffers_set |= module._non_persistent_buffers_set & set(made._buffers)
    if set(made.state_dict()) != set(module.state_dict()):
        raise ValueError("its parameters would have other names")
    return made.train(module.training)


def _copied(module: nn.Module) -> nn.Module:
    """Return a copy with the same tensors: code that keeps what it computes would keep proxies."""
    tensors = (*module.parameters(), *module.buffers())
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
