"""Backward nodes, their numbers and hooks, and who refers to a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch

NO_SEQUENCE_NR = 2**64 - 1
"""What autograd gives to nodes that no forward op made (AccumulateGrad)."""


def current_autograd_node() -> Any:
    """Return the backward node that the engine is executing, ``None`` outside of backward.

    ``torch._C._current_autograd_node``: 2.6–2.13.
    """
    return torch._C._current_autograd_node()


def reference_counts(tensor: torch.Tensor) -> tuple[int, int]:
    """Return how many references C++ has to a tensor and to its storage, those of Python included.

    ``Tensor._use_count`` and ``torch._C._storage_Use_Count``: 2.6–2.13.
    """
    count: int = tensor._use_count()  # type: ignore[attr-defined]
    storage: int = torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)
    return count, storage


def is_python_node(node: Any) -> bool:
    """Return whether a backward node runs a backward written in Python.

    A stand-in for one of PyTorch's own nodes is none.
    """
    is_python = isinstance(node, torch.autograd.function.BackwardCFunction)
    return is_python and type(node) is not StandIn._backward_cls


Answers: TypeAlias = (
    "Callable[[Sequence[torch.Tensor], torch.Tensor], Sequence[torch.Tensor | None]]"
)
"""Returns a gradient per tensor that a node comes from, of what it kept and the gradient it got."""


class StandIn(torch.autograd.Function):
    """A backward node in the place of one of PyTorch's own, whose operators are known."""

    @staticmethod
    def forward(
        ctx: Any,
        made: list[torch.Tensor],
        answers: Answers,
        saved: tuple[torch.Tensor, ...],
        *tensors: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the tensor in a list; ``saved`` is kept for the backward."""
        ctx.materialize_grads = False
        ctx.answers = answers
        if saved:
            ctx.to_save = saved
        return made.pop()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        """Return the gradients of all arguments."""
        if gradient is None:
            return (None,) * len(ctx.needs_input_grad)
        return (None, None, None, *ctx.answers(ctx.saved_tensors, gradient))


_node: Any = StandIn._backward_cls
_node.apply = StandIn.backward  # PyTorch's own looks for it each time (2.6–2.13)
stand_in: Callable[..., torch.Tensor] = super(torch.autograd.Function, StandIn).apply
"""``StandIn.apply`` without what it does about transforms of ``torch.func`` (2.6–2.13)."""


def saves_through_hooks() -> bool:
    """Return whether hooks may take what autograd saves, as checkpoints and offloading do.

    ``torch._C._autograd._top_saved_tensors_default_hooks``: 2.8–2.13; before, it cannot be told.
    """
    return _top_hooks is None or _top_hooks(True) is not None


_top_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)


def graph_task() -> int:
    """Return the number of the backward that the engine runs (2.6–2.13)."""
    number: int = torch._C._current_graph_task_id()
    return number


def shape_of_input(node: Any) -> tuple[torch.Size, torch.dtype] | None:
    """Return what the gradient that a node takes looks like, ``None`` where it takes several.

    ``Node._input_metadata``: 2.8–2.13.
    """
    taken: Sequence[Any] = getattr(node, "_input_metadata", ())
    return (torch.Size(taken[0].shape), taken[0].dtype) if len(taken) == 1 else None


def kept_by(node: Any) -> list[Any]:
    """Return what a node of PyTorch's own keeps for the backward (``_saved_…``: 2.6–2.13)."""
    return [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]


def next_sequence_nr() -> int:
    """Return the number that the next differentiable forward op will give to its node.

    ``torch.autograd._get_sequence_nr``: 2.6–2.13.
    """
    number: int = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
    return number


def node_sequence_nr(node: Any) -> int:
    """Return the sequence number of a backward node (``Node._sequence_nr``: 2.6–2.13)."""
    number: int = node._sequence_nr()
    return number


def node_variable(node: Any) -> torch.Tensor | None:
    """Return the leaf that an AccumulateGrad node writes to, ``None`` for other nodes."""
    return getattr(node, "variable", None)


TENSOR_HOOKS = "_backward_hooks"
"""Where ``Tensor.register_hook`` keeps hooks, by number; settable (2.6–2.13)."""
POST_ACCUMULATE_HOOKS = "_post_accumulate_grad_hooks"
"""Where ``register_post_accumulate_grad_hook`` keeps them (2.6–2.13)."""


def node_hooks(node: Any) -> tuple[dict[int, Any], dict[int, Any]]:
    """Return the hooks before and after a node that accumulates a leaf's gradient.

    A node names its dictionaries to the handle of a hook that is added to them
    (``THPCppFunction_register_hook`` in ``torch/csrc/autograd/python_cpp_function.cpp``, 2.6–2.13).
    A node without references is a new one, and has none.
    """
    found = []
    for register in (node.register_prehook, node.register_hook):
        handle = register(print)
        hooks = handle.hooks_dict_ref()
        handle.remove()
        found.append({} if hooks is None else hooks)
    return found[0], found[1]


class _Shown(Exception):
    """Carries the hooks of a node."""

    def __init__(self, hooks: dict[int, Any] | None) -> None:
        super().__init__()
        self.hooks = hooks or {}


def _look(*_: Any) -> None:
    """Stand for a hook where the others are only looked at."""


def _show(hooks: dict[int, Any] | None, hook: Any) -> Any:
    if hook is _look:
        raise _Shown(hooks)
    return _register_hook(hooks, hook)


_register_hook: Callable[..., Any] = torch.autograd.Function._register_hook


def hooks_of_nodes(nodes: Iterable[Any]) -> list[list[dict[int, Any]]]:
    """Return the hooks before and after each of many nodes; nothing is added to the nodes.

    A node hands its dictionary to ``Function._register_hook`` when a hook is added, and adds none
    when that raises (the same source).
    """
    torch.autograd.Function._register_hook = staticmethod(_show)  # type: ignore[method-assign]
    try:
        return [[_hooks(node.register_prehook), _hooks(node.register_hook)] for node in nodes]
    finally:
        del torch.autograd.Function._register_hook  # a base class has it


def _hooks(register: Callable[..., Any]) -> dict[int, Any]:
    try:
        register(_look)
    except _Shown as shown:
        return shown.hooks
    return {}


def gradient_node(leaf: torch.Tensor) -> Any:
    """Return the node that accumulates a leaf's gradient; it lives while somebody holds it."""
    return torch.autograd.graph.get_gradient_edge(leaf).node


class _Gathered(torch.autograd.Function):
    """A node that comes after those of all its arguments."""

    @staticmethod
    def forward(ctx: Any, *leaves: torch.Tensor) -> torch.Tensor:
        """Return a tensor that seems to be computed from the leaves."""
        return torch.empty(0, device="cpu")


def gradient_nodes(leaves: Sequence[torch.Tensor]) -> list[Any]:
    """Return the nodes that accumulate the gradients of leaves, all at once."""
    if not leaves:
        return []
    with torch.enable_grad():
        gathered = _Gathered.apply(*leaves)  # type: ignore[no-untyped-call]
    return [node for node, _ in gathered.grad_fn.next_functions]


def viewed(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the tensor that a differentiable view is a view of (``Tensor._base``: 2.6–2.13)."""
    if not tensor.requires_grad or tensor.is_leaf or type(tensor) is not torch.Tensor:
        return None
    return tensor._base if tensor.layout is torch.strided else None
