"""A layer that is trained, in the place of an equal one: its operators are noted, not run.

Where more may have to be done, the layer runs. What cannot be done by stand-ins for its backward
nodes, such as gradients of gradients, is said in ``gave_up``; then the run is made again without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from torchgauge.facts.trace import Phase, TensorSpec
from torchgauge.trace.operators.nodes import (
    Node,
    backward_of,
    nodes_in_order,
    nodes_of,
)
from torchgauge.trace.operators.op_facts import facts_of
from torchgauge.trace.operators.remembered import Made, made_as, spec_of
from torchgauge.trace.operators.repeated import Held, Layer
from torchgauge.trace.python.python_calls import Counting
from torchgauge.trace.record.in_place import SUM_IN_PLACE
from torchgauge.trace.record.recording import GradientSum, OpenCall
from torchgauge.trace.record.short_ways import NEW, KnownLayer, ShortWays
from torchgauge.trace.shapes.rule import META, Args
from torchgauge.trace.torch_internals.autograd import (
    current_autograd_node,
    graph_task,
    node_sequence_nr,
    saves_through_hooks,
    stand_in,
)
from torchgauge.trace.torch_internals.modes import is_alone, without_dispatch
from torchgauge.trace.torch_internals.tensors import storage_key
from torchgauge.trace.values.simulation import Simulation

_TENSORS = (torch.Tensor, nn.Parameter)
_ADDED = facts_of(SUM_IN_PLACE)
_NOTHING_HELD = (0, -1, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """What is known of all calls of equal layers."""

    forward: KnownLayer
    nodes: tuple[Node, ...]
    arguments: tuple[tuple[Made, bool], ...]
    """What its arguments look like, and whether they require gradients."""


class _Call(NamedTuple):
    """One call of a layer that did not run."""

    trained: _Trained
    layer: Layer
    inner: Callable[..., Any]
    held: tuple[list[int], list[Any]]
    """What decides about the layer, tensors by their identity: a graph does not keep them all."""
    call: OpenCall
    storages: list[int]


class TrainedLayers(ShortWays):
    """Notes layers of a training step from an equal call."""

    def __init__(self, *, device: str, simulation: Simulation | None, keep_ops: bool) -> None:
        super().__init__(device=device, simulation=simulation, keep_ops=keep_ops)
        self.may_stand_in = False
        """Whether layers may be noted without running; the run may have to be made again."""
        self.stood_in = False
        """Whether one was."""
        self.gave_up = False
        """Whether what a stand-in had to do was more than it can."""
        self._trained: dict[int, _Trained | None] = {}
        """By the identity of what is known of a layer."""
        self._seen: dict[tuple[Any, ...], tuple[Made, bool] | None] = {}
        """What comes out of layers, and whether gradients flow, in a run that notes no operator."""

    def _run_trained_layer(
        self, layer: Layer, inner: Callable[..., Any], args: Args, call: OpenCall, around: Counting
    ) -> Any:
        """Run a layer with gradients, or note what it did in an equal call."""
        simulation = self.simulation
        if simulation is None or not self.may_stand_in:
            return inner(*args)
        if self.phase is not Phase.FORWARD or self.threads.is_several or not is_alone():
            return inner(*args)
        if saves_through_hooks() or self.composites is not None:
            return inner(*args)
        held, keys = layer.held(), list[int]()
        key = None if held is None else simulation.remembered.layer_key(layer, args, held, keys)
        storages: list[Any] = list(map(self.storages.live.get, keys))
        if key is None or held is None or simulation.values.holds_any(keys):
            return inner(*args)
        if not self._keep_ops:
            return self._run_seen_layer(key, inner, args, call, held, keys)
        if None in storages:
            return inner(*args)
        known = self._layers.get(key, NEW)
        if known is NEW:
            if around is Counting.OFF:  # a function in the place of PyTorch's would go unseen
                return inner(*args)
            return self._run_new_layer(key, inner, args, call, keys, storages)
        if known is None:
            return inner(*args)
        trained = self._trained.get(id(known), NEW)
        tensors = [value for value in (*args, *held.tensors) if value is not None]
        if trained is NEW:
            is_plain = all([type(value) in _TENSORS for value in tensors])
            is_plain = is_plain and len(set(keys)) == len(keys) == len(tensors)
            trained = _examined(known, inner, args, tensors) if is_plain else None
            self._trained[id(known)] = trained
        if trained is None:
            return inner(*args)
        if self._product is not None:
            self._note_kept_number()
        self.stood_in = True
        return self._stand_in(
            _Call(trained, layer, inner, _identities(held), call, storages), tensors
        )

    def _stand_in(self, one: _Call, tensors: list[torch.Tensor]) -> torch.Tensor:
        """Return what comes out of a layer that is noted, behind stand-ins for its nodes."""
        trained, made = one.trained, list[torch.Tensor]()
        last = len(trained.nodes) - 1
        with without_dispatch():
            for index, node in enumerate(trained.nodes):
                edges = [
                    None if edge is None else tensors[edge] if edge >= 0 else made[~edge]
                    for edge in node.edges
                ]
                if index == last:
                    outputs = [made_as(trained.forward[1])]
                    self._note_layer(trained.forward, outputs[0], one.call, one.storages)
                elif node.is_transpose and edges[0] is not None:
                    made.append(edges[0].t())  # takes less time than a stand-in
                    continue
                else:
                    shape, dtype = node.made
                    outputs = [torch.empty(shape, dtype=dtype, device=META)]
                saved = tuple([tensors[place] for place in node.saved])
                answers = partial(self._run_node, one, index)
                made.append(stand_in(outputs, answers, saved, *edges))
        return made[-1]

    def _run_seen_layer(
        self,
        key: tuple[Any, ...],
        inner: Callable[..., Any],
        args: Args,
        call: OpenCall,
        held: Held,
        keys: list[int],
    ) -> Any:
        """Run a layer of which nothing is noted but what comes out, or make that."""
        known = self._seen.get(key, NEW)
        if known is None or any(type(value) not in _TENSORS for value in args):
            return inner(*args)
        if known is NEW:
            self._seen[key] = None
            self.python.start(Counting.ON)
            is_counted = self.python.is_on
            output = inner(*args)
            self.python.pause()
            if is_counted and not call.python_calls and type(output) is torch.Tensor:
                with without_dispatch():
                    spec = spec_of(output.detach(), keys)
                self._seen[key] = None if spec is None else (spec, output.requires_grad)
            call.python_calls = 0
            return output
        made, requires_grad = known
        with without_dispatch():
            output = made_as(made)
            if requires_grad:
                self.stood_in = True
                output = stand_in([output], self._give_up, (), *args, *held.tensors)
        return output

    def _give_up(self, saved: Sequence[torch.Tensor], gradient: torch.Tensor) -> Sequence[Any]:
        """End a run in which nobody was to ask for gradients."""
        self.gave_up = True
        raise NotImplementedError  # seen by nobody but the model: the run is made again

    # ------------------------------------------------------------------ in the backward

    def _run_node(
        self, one: _Call, index: int, saved: Sequence[torch.Tensor], gradient: torch.Tensor
    ) -> Sequence[torch.Tensor | None]:
        """Run a backward node, or note what it did with an equal gradient."""
        if self._sums:
            self.note_sums()
        answers, is_noted = self._answers(one, index, saved, gradient)
        return self._without_sums(one, one.trained.nodes[index], answers, may_sum=is_noted)

    def _answers(
        self, one: _Call, index: int, saved: Sequence[torch.Tensor], gradient: torch.Tensor
    ) -> tuple[list[torch.Tensor | None], bool]:
        """Return the gradients of a backward node, and whether it was noted without running."""
        simulation, node = self.simulation, one.trained.nodes[index]
        assert simulation is not None
        is_usual = self.phase is Phase.BACKWARD and not (
            self._is_in_hook or self.stack or self.threads.is_several or torch.is_grad_enabled()
        )
        self.gave_up |= not is_usual
        if self._product is not None:
            self._note_kept_number()
        keys: list[int] = []
        is_usual = is_usual and is_alone()
        key = simulation.remembered.gradient_key(gradient, keys) if is_usual else None
        place = self.storages.live.get(keys[0]) if keys else None
        if key is None or place is None or place in one.storages:
            return self._run_real_node(one, index, saved, gradient), False
        if simulation.values.holds_any(keys):
            return self._run_real_node(one, index, saved, gradient), False
        known = node.known.get(key, NEW)
        if known is NEW:
            return self._run_new_node(key, one, index, saved, gradient, place), False
        if known is None:
            return self._run_real_node(one, index, saved, gradient), False
        with without_dispatch():
            answers = known.answers(gradient)
        made = map(answers.__getitem__, known.holders)
        self._note_steps(known.steps, [*one.storages, place], made, one.call.index)
        return answers, True

    def _run_new_node(
        self,
        key: tuple[Any, ...],
        one: _Call,
        index: int,
        saved: Sequence[torch.Tensor],
        gradient: torch.Tensor,
        place: int,
    ) -> list[torch.Tensor | None]:
        """Run a node, and keep what it did where that may stand for another time."""
        tracker = self.storages
        first_op, first_event = len(self._ops), len(tracker.events)
        answers = self._run_real_node(one, index, saved, gradient)
        events = [(number, is_free) for number, is_free, _ in tracker.events[first_event:]]
        with without_dispatch():
            one.trained.nodes[index].known[key] = backward_of(
                self._ops[first_op:], answers, gradient, [*one.storages, place], events,
                tracker.live,
            )  # fmt: skip
        return answers

    def _run_real_node(
        self, one: _Call, index: int, saved: Sequence[torch.Tensor], gradient: torch.Tensor
    ) -> list[torch.Tensor | None]:
        """Run the node that a stand-in stands for: of the layer's forward, made again unseen."""
        node, held = one.trained.nodes[index], one.layer.held()
        self.gave_up |= held is None or _identities(held) != one.held
        kept = dict(zip(node.saved, saved, strict=True))
        with without_dispatch(), torch.enable_grad():
            output = one.inner(*_arguments(one.trained.arguments, kept))
            real = nodes_in_order(output)[index]
        found = real(gradient)
        answers = list(found) if isinstance(found, tuple) else [found]
        for place, shape in enumerate(node.shapes):
            answer = answers[place]
            self.gave_up |= shape is not None and answer is None
            if answer is not None and shape is not None and answer.shape != shape:
                answers[place] = answer.sum_to_size(shape)  # here, while the gradient is held
        return answers

    def _without_sums(
        self, one: _Call, node: Node, answers: list[torch.Tensor | None], *, may_sum: bool
    ) -> list[torch.Tensor | None]:
        """Keep gradients of leaves from the engine where it would add them in place.

        It has done so before with the gradient that it holds, to which nobody else refers.
        """
        first = len(one.trained.arguments)
        for position, edge in enumerate(node.edges):
            if edge is not None and edge < first:  # the engine sums in order
                break
            gradient = None if edge is None else answers[position]
            if edge is None or gradient is None:
                continue
            if self._waits_to_be_summed(one, edge, gradient, may_sum=may_sum, through_t=False):
                answers[position] = None
        if node.transposed is not None and node.transposed[1] >= first:
            position, edge = node.transposed
            gradient = answers[position]
            if gradient is not None and self._waits_to_be_summed(
                one, edge, gradient, may_sum=may_sum, through_t=True
            ):
                answers[position] = None
        return answers

    def _waits_to_be_summed(
        self, one: _Call, edge: int, gradient: torch.Tensor, *, may_sum: bool, through_t: bool
    ) -> bool:
        """Return whether the sum with a leaf's gradient is left to be noted, not made."""
        live, place = self.storages.live, one.storages[edge]
        leaf = (graph_task(), place)
        held, number, spec = self._held.get(leaf, _NOTHING_HELD)
        if may_sum and spec is not None and live.get(held) == number:
            own = self.specs.of_dense(gradient)
            if _is_transposed(gradient, own, spec) if through_t else _is_like(gradient, own, spec):
                made_by = node_sequence_nr(current_autograd_node())
                source = own if through_t else None
                self._sums.append(
                    GradientSum(
                        _ADDED, number, gradient, spec, one.call.index, made_by, place, source
                    )
                )
                return True
        self._leaves[live.get(storage_key(gradient.untyped_storage()), -1)] = leaf
        return False


def _is_like(gradient: torch.Tensor, spec: TensorSpec, held: TensorSpec) -> bool:
    """Return whether a gradient looks like the one that is held."""
    return spec is held and gradient.is_contiguous()


def _is_transposed(gradient: torch.Tensor, spec: TensorSpec, held: TensorSpec) -> bool:
    """Return whether the ``t`` of a gradient looks like the one that is held."""
    shape = spec.shape
    return (
        shape[::-1] == held.shape
        and spec.dtype == held.dtype
        and gradient.stride() == (1, shape[0])
    )


def _examined(
    known: KnownLayer, inner: Callable[..., Any], args: Args, tensors: list[torch.Tensor]
) -> _Trained | None:
    """Return what stand-ins for a layer's nodes need, ``None`` where there can be none."""
    if any(type(value) not in _TENSORS for value in args):
        return None
    if any(t.requires_grad and not t.is_leaf for t in tensors[len(args) :]):
        return None
    arguments = tuple(
        ((value.shape, value.stride(), value.dtype), value.requires_grad) for value in args
    )
    with without_dispatch(), torch.enable_grad():
        copies = _arguments(arguments, dict(enumerate(args)))
        nodes = nodes_of(inner(*copies), [*copies, *tensors[len(args) :]])
    if nodes is None:
        return None
    return _Trained(forward=known, nodes=nodes, arguments=arguments)


def _arguments(
    arguments: tuple[tuple[Made, bool], ...], kept: dict[int, torch.Tensor]
) -> list[torch.Tensor]:
    """Return leaves that look like a layer's arguments; those that are kept share their storage."""
    return [
        (kept[place].detach() if place in kept else made_as(made)).requires_grad_(requires_grad)
        for place, (made, requires_grad) in enumerate(arguments)
    ]


def _identities(held: Held) -> tuple[list[int], list[Any]]:
    return list(map(id, held.tensors)), held.attributes
