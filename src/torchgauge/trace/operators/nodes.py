"""The backward nodes of layers of PyTorch, and what they did in an earlier backward.

A layer that is called again makes the same nodes. Stand-ins take their place: in the same order,
with the same edges, keeping the same tensors, so that the engine runs the backward as ever. The
first time that a stand-in gets a gradient, the node that it stands for runs. The next time, with a
gradient that looks the same, its operators are noted from the first one's record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from torchgauge.trace.operators.remembered import Made, made_as, spec_of
from torchgauge.trace.operators.repeated import Step, steps_of
from torchgauge.trace.torch_internals.autograd import (
    is_python_node,
    kept_by,
    node_sequence_nr,
    node_variable,
    shape_of_input,
)
from torchgauge.trace.torch_internals.tensors import storage_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One backward node of a layer; tensors are known by their position among the layer's."""

    edges: tuple[int | None, ...]
    """Where gradients go: to a tensor, or to the ``~edge``-th node. ``None`` is nowhere."""
    shapes: tuple[torch.Size | None, ...]
    """The shapes of these gradients; the engine sums what was broadcast."""
    saved: tuple[int, ...]
    """The tensors that it keeps."""
    made: tuple[torch.Size, torch.dtype]
    """What its operator returned."""
    is_transpose: bool
    """Whether its operator is the ``t`` of a tensor of the layer: nothing that costs time."""
    transposed: tuple[int, int] | None
    """Which of its gradients goes through a ``t`` that comes next, and to which tensor."""
    known: dict[tuple[Any, ...], Backward | None] = field(default_factory=dict)
    """What it did, by the gradient that it got; ``None`` where that stands for no other time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A gradient that is a view of the one that came in."""

    shape: torch.Size
    stride: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewView:
    """A gradient that is a view of a new tensor, to which it refers: the engine sums it anew.

    Views made without gradients have a base too (``as_view`` in PyTorch's
    ``torch/csrc/autograd/VariableTypeUtils.h``, 2.6–2.13).
    """

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Backward:
    """What a node did with a gradient."""

    steps: tuple[Step, ...]
    """With storages by position: the layer's, the gradient's, then the new ones."""
    gradients: tuple[Made | View | NewView, ...]
    holders: tuple[int, ...]
    """Which of the gradients each new storage is of."""

    def answers(self, gradient: torch.Tensor) -> list[torch.Tensor | None]:
        """Return new gradients like those that the node returned."""
        return [_made_again(made, gradient) for made in self.gradients]


def _made_again(made: Any, gradient: torch.Tensor) -> torch.Tensor | None:
    """Return a new gradient like one that a node returned."""
    kind = type(made)
    if kind is View:
        return gradient.as_strided(made.shape, made.stride, made.offset)
    if kind is NewView:
        new: torch.Tensor = made_as((made.shape, made.stride, made.dtype))
        return new.as_strided(made.shape, made.stride)
    return made_as(made)  # type: ignore[no-any-return]


def nodes_in_order(output: torch.Tensor) -> list[Any]:
    """Return the nodes that an output comes from, as they were made; those of leaves are last."""
    found: dict[int, Any] = {}
    stack = [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None and id(node) not in found:
            found[id(node)] = node
            stack += [other for other, _ in node.next_functions]
    return sorted(found.values(), key=node_sequence_nr)


def nodes_of(output: torch.Tensor, tensors: Sequence[torch.Tensor]) -> tuple[Node, ...] | None:
    """Return the nodes behind what a layer made of ``tensors``, in the order of their making.

    ``None`` where stand-ins could not take their place: each has to be one of PyTorch's own with
    one output, and to keep nothing but numbers and the layer's tensors.
    """
    nodes = nodes_in_order(output)
    places = {id(node): ~index for index, node in enumerate(nodes)}
    own: list[Any] = []
    for node in nodes:
        leaf = node_variable(node)
        if leaf is None:
            own.append(node)
            continue
        place = next((p for p, tensor in enumerate(tensors) if tensor is leaf), None)
        if place is None:
            return None
        places[id(node)] = place
    storages = [storage_key(tensor.untyped_storage()) for tensor in tensors]
    found: list[Node] = []
    for node in own:
        one = _node(node, places, storages, found)
        if one is None:
            return None
        found.append(one)
    return tuple(found) or None


def _node(
    node: Any, places: dict[int, int], storages: list[int], before: Sequence[Node]
) -> Node | None:
    """Return one node after those ``before``, ``None`` where nothing stands in for it."""
    made = shape_of_input(node)
    edges = node.next_functions
    taken = [None if other is None else shape_of_input(other) for other, _ in edges]
    if made is None or is_python_node(node) or any(number for _, number in edges):
        return None
    saved: dict[int, None] = {}
    for value in kept_by(node):
        if isinstance(value, torch.Tensor):
            key = storage_key(value.untyped_storage())
            if key not in storages:
                return None
            saved[storages.index(key)] = None
        elif _holds_tensor(value):
            return None
    ends = tuple([None if other is None else places[id(other)] for other, _ in edges])
    last = ~(len(before) - 1)
    return Node(
        edges=ends,
        shapes=tuple([None if found is None else found[0] for found in taken]),
        saved=tuple(saved),
        made=made,
        is_transpose=node.name() == "TBackward0" and ends[0] is not None and ends[0] >= 0,
        transposed=(
            (ends.index(last), before[-1].edges[0] or 0)
            if before and before[-1].is_transpose and ends.count(last) == 1
            else None
        ),
    )


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(v, torch.Tensor) for v in value)


def backward_of(
    ops: Sequence[tuple[Any, ...]],
    gradients: Sequence[torch.Tensor | None],
    gradient: torch.Tensor,
    storages: Sequence[int],
    events: Sequence[tuple[int, bool]],
    live: dict[int, int],
) -> Backward | None:
    """Return what a node did, ``None`` where that cannot stand for another time.

    ``storages`` are the layer's and the gradient's, ``events`` are those of storages meanwhile.
    """
    new = [index for index, is_free in events if not is_free]
    steps = steps_of(ops, storages, new)
    if steps is None or len(new) != len(events):
        return None
    keys = [key for key, index in live.items() if index not in new]
    made: list[Made | View | NewView] = []
    holders: dict[int, int] = {}
    for position, answer in enumerate(gradients):
        spec = None if answer is None else _made(answer, gradient, keys)
        if answer is not None and spec is None:
            return None
        if answer is not None and type(spec) is not View:
            holders[live[storage_key(answer.untyped_storage())]] = position
        made.append(spec)
    if holders.keys() != set(new):
        return None
    return Backward(steps=steps, gradients=tuple(made), holders=tuple([holders[i] for i in new]))


def _made(answer: torch.Tensor, gradient: torch.Tensor, keys: list[int]) -> Made | View | NewView:
    """Return how to make a gradient again; ``None`` where that is not known."""
    own = storage_key(answer.untyped_storage())
    if own != storage_key(gradient.untyped_storage()):
        spec = spec_of(answer, keys)
        if spec is None or not answer._is_view():
            return spec
        return NewView(shape=answer.shape, stride=answer.stride(), dtype=answer.dtype)
    if type(answer) is not torch.Tensor or answer.dtype is not gradient.dtype:
        return None
    if answer.is_conj() or answer.is_neg():
        return None
    return View(shape=answer.shape, stride=answer.stride(), offset=int(answer.storage_offset()))
