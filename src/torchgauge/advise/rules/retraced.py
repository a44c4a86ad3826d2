"""A module as a graph of its own code, by ``torch.fx``; its children stay as they are.

The code is traced for training and for inference. What differs in more than a flag, or keeps
something on the module, is refused: a graph would do what one of the two does.
"""

from __future__ import annotations

import copy
import inspect
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from torchgauge.facts.trace import ModuleCall
from torchgauge.trace.torch_internals.replaced import replaced

IN_TRAINING: Final = "training"
"""What a graph reads where the code reads ``self.training``."""
_CREATORS: Final = ("ones", "zeros", "empty", "full", "arange", "eye", "rand", "randn")
"""PyTorch's argument parser takes no proxies for their sizes, or not one by one (2.6–2.13)."""
_FLAG: Final = ".*'get_attr'"
"""What is said of a graph that reads ``IN_TRAINING`` (2.6)."""
_OF_VIEWS: Final = ("getitem", "view", "transpose", "permute", "reshape", "chunk", "split",
    "narrow", "select", "expand", "unsqueeze", "squeeze", "flatten", "unbind")  # fmt: skip


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # ``self.mask[:, :n]``, with the length of the input

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Code:
    """What a module's own code does."""

    graph: fx.Graph
    constants: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Tensors that the code makes from numbers alone, by the names that the graph reads."""


def given_tensors(call: ModuleCall) -> tuple[str, ...]:
    """Return the names of the arguments that were tensors."""
    return tuple(value.name for value in call.inputs if value.tensor is not None)


def code_of(module: nn.Module, given: tuple[str, ...]) -> Code:
    """Return what the code of a module does when it gets these arguments, in either mode.

    Raises:
        ValueError: its forward takes any arguments, does something else in training than at
            inference, keeps something on the module, makes other constants each time, or writes
            in place where that cannot be followed.
        Exception: whatever its code does with a proxy.
    """
    concrete: dict[str, Any] = {}
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ValueError("its forward takes any arguments")
        if parameter.default is not parameter.empty and name not in given:
            concrete[name] = parameter.default
    graphs: list[fx.Graph] = []
    constants: list[dict[str, torch.Tensor]] = []
    for training in (False, True):
        copied = _copied(module).train(training)
        with torch.set_grad_enabled(training), _sizes_may_be_proxies():
            graphs.append(_Tracer().trace(copied, dict(concrete)))
        _refuse_kept(module, copied)
        made = {n: v for n, v in vars(copied).items() if n.startswith("_tensor_constant")}
        constants.append(made)
    inference, in_training = graphs
    _join(inference, list(inference.nodes), list(in_training.nodes))
    _refuse_other_constants(*constants)
    _use_what_is_written(inference)
    return Code(inference, constants[0])


def module_of(
    module: nn.Module, code: Code, more: Mapping[str, nn.Module] | None = None
) -> fx.GraphModule:
    """Return a module that runs a graph, with the parameters of another one by the same names.

    Raises:
        ValueError: the names would differ.
    """
    root: dict[str, Any] = {name: child for name, child in module.named_modules() if name}
    root |= dict(module.named_parameters()) | dict(module.named_buffers()) | dict(more or {})
    root |= {IN_TRAINING: module.training} | dict(code.constants)
    made = fx.GraphModule(root, code.graph, class_name=type(module).__name__)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _FLAG, UserWarning)
        made.graph.eliminate_dead_code()
    made.recompile()
    for name, child in module.named_children():
        if name not in made._modules:
            made.add_module(name, child)
    for name, parameter in module.named_parameters(recurse=False):
        if name not in made._parameters:
            made.register_parameter(name, parameter)
    for name, buffer in module.named_buffers(recurse=False):
        if name not in made._buffers:
            made.register_buffer(name, buffer)
    fleeting = module._non_persistent_buffers_set | set(code.constants)
    made._non_persistent_buffers_set |= fleeting & set(made._buffers)
    if set(made.state_dict()) != set(module.state_dict()):
        raise ValueError("its parameters would have other names")
    for new in (made, *(more or {}).values()):  # the others are those of the module
        new.training = module.training
    return made


# ---------------------------------------------------------------------------- tracing


def _copied(module: nn.Module) -> nn.Module:
    """Return a copy with the same tensors: code that keeps what it computes would keep proxies."""
    tensors = (*module.parameters(), *module.buffers())
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


@contextmanager
def _sizes_may_be_proxies() -> Iterator[None]:
    """Let ``torch.ones(n, n)`` take the sizes of proxies: a call of the graph, as it is written."""

    def taking_proxies(original: Any) -> Any:
        def create(*args: Any, **kwargs: Any) -> Any:
            for value in tree_leaves((args, kwargs)):
                if isinstance(value, fx.Proxy):
                    return value.tracer.create_proxy("call_function", original, args, kwargs)
            return original(*args, **kwargs)

        return create

    with replaced(torch, **{name: taking_proxies(getattr(torch, name)) for name in _CREATORS}):
        yield


def _refuse_kept(module: nn.Module, traced: nn.Module) -> None:
    for name, value in vars(traced).items():
        parts = value.values() if isinstance(value, dict) else value
        held = parts if isinstance(value, (dict, list, tuple)) else (value,)
        is_other = isinstance(value, (int, float, str)) and value != vars(module).get(name)
        if any(isinstance(part, fx.Proxy) for part in held) or (is_other and name != IN_TRAINING):
            raise ValueError(f"its forward keeps {name} on the module")


def _refuse_other_constants(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse tensors that depend on the mode, or are drawn: the graph would hold one of them."""
    if one.keys() != other.keys() or any(not torch.equal(one[n], other[n]) for n in one):
        raise ValueError("its forward makes a tensor that is not the same each time")


# ---------------------------------------------------------------------------- both modes


def _join(graph: fx.Graph, nodes: Sequence[fx.Node], others: Sequence[fx.Node]) -> None:
    """Let the graph of inference do what that of training does in train mode.

    Raises:
        ValueError: they differ in more than flags and probabilities.
    """
    same = [(node.op, node.target) for node in nodes] == [(n.op, n.target) for n in others]
    if not same:
        raise ValueError("its forward does something else in training than at inference")
    twins = dict(zip(others, nodes, strict=True))
    for node, other in zip(nodes, others, strict=True):
        node.args = _joined(graph, node, node.args, other.args, twins)
        node.kwargs = _joined(graph, node, node.kwargs, other.kwargs, twins)


def _joined(graph: fx.Graph, node: fx.Node, one: Any, other: Any, twins: Any) -> Any:
    """Return an argument that has the value of each mode in that mode."""
    if isinstance(other, fx.Node):
        if twins[other] is one:
            return one
    elif isinstance(one, (tuple, list)) and type(one) is type(other) and len(one) == len(other):
        both = zip(one, other, strict=True)
        return type(one)([_joined(graph, node, a, b, twins) for a, b in both])
    elif isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        return {key: _joined(graph, node, one[key], other[key], twins) for key in one}
    elif isinstance(one, slice) and isinstance(other, slice):
        parts = ((one.start, other.start), (one.stop, other.stop), (one.step, other.step))
        return slice(*(_joined(graph, node, a, b, twins) for a, b in parts))
    elif type(one) is type(other) and repr(one) == repr(other):
        return one
    elif (one is False and other is True) or (one == 0.0 and isinstance(other, float)):
        with graph.inserting_before(node):
            flag = graph.get_attr(IN_TRAINING)
            return flag if other is True else graph.call_function(operator.mul, (other, flag))
    raise ValueError("its forward does something else in training than at inference")


def _use_what_is_written(graph: fx.Graph) -> None:
    """Let later readers of a tensor read what ``x.add_(y)`` returns, so that it is not dropped.

    Raises:
        ValueError: the tensor is the module's, a view of another one, or read through a view of
            it; or a child is called of which nothing is read.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if node.op == "call_module" and not node.users:
            raise ValueError(f"nothing reads what {node.target} returns; it may write in place")
        if (
            node.users
            or not _writes(node)
            or not node.args
            or not isinstance(node.args[0], fx.Node)
        ):
            continue
        old = node.args[0]
        name = getattr(old.target, "__name__", old.target)
        if old.op in ("get_attr", "placeholder") or name in _OF_VIEWS:
            raise ValueError(f"its forward writes into a tensor in place ({node.target})")
        for user in list(old.users):
            if order[user] > order[node]:
                user.replace_input_with(old, node)
        if not node.users:
            raise ValueError(f"its forward writes into a tensor in place ({node.target})")


def _writes(node: fx.Node) -> bool:
    """Return whether an operator writes into its first argument, by its name or ``inplace``."""
    if node.op == "call_method":
        return str(node.target).endswith("_")
    name, home = (getattr(node.target, key, None) or "" for key in ("__name__", "__module__"))
    is_named = name.endswith("_") and home != "_operator"  # ``operator.and_`` writes nothing
    return node.op == "call_function" and (is_named or bool(node.kwargs.get("inplace")))
