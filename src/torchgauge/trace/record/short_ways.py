"""Short ways for operators that follow no special rule, and for layers made of these."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch

from torchgauge.facts.trace import Phase, TensorSpec
from torchgauge.trace.inspect.irregular import is_irregular
from torchgauge.trace.inspect.subclasses import ORDINARY
from torchgauge.trace.operators.op_facts import OpFacts, facts_of
from torchgauge.trace.operators.remembered import Made, again, made_as, spec_of
from torchgauge.trace.operators.repeated import Layer, Step, steps_of
from torchgauge.trace.python.python_calls import Counting
from torchgauge.trace.record.in_place import SUM, SUM_IN_PLACE, is_last_reference, writes_over
from torchgauge.trace.record.kept_numbers import saved_factor
from torchgauge.trace.record.module_calls import ModuleCalls
from torchgauge.trace.record.recording import OpenCall
from torchgauge.trace.shapes.rule import META, Args, Kwargs
from torchgauge.trace.torch_internals.autograd import (
    current_autograd_node,
    node_sequence_nr,
    node_variable,
)
from torchgauge.trace.torch_internals.modes import is_alone, without_dispatch
from torchgauge.trace.torch_internals.tensors import storage_key
from torchgauge.trace.values.simulation import Simulation

KnownLayer: TypeAlias = tuple[tuple[Step, ...], Made, tuple[int, ...]]
"""What a layer did, what it returned, and the places that this was made from."""
NEW: Any = object()
"""Stands for what was not looked up before."""
Leaf: TypeAlias = tuple[int, int]
"""A backward, and the number of the storage of a leaf that it computes a gradient for."""


class ShortWays(ModuleCalls):
    """Does in less time what the recorder does for all operators.

    Where more may have to be done, a short way returns ``NotImplemented``.
    """

    def __init__(self, *, device: str, simulation: Simulation | None, keep_ops: bool) -> None:
        super().__init__(device=device, simulation=simulation, keep_ops=keep_ops)
        self._takes_plain = simulation is not None
        self._is_in_hook = False
        """Whether a hook on a parameter runs now, whose sums are not the engine's."""
        self._product: tuple[weakref.ref[torch.Tensor], int] | None = None
        """The last result of a tensor and a number, and its call, until the next operator."""
        self._plain: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        """What to note of operators that were run before, and their answers."""
        self._layers: dict[tuple[Any, ...], KnownLayer | None] = {}
        """What layers did; ``None`` where that stands for no other call."""
        self._leaves: dict[int, Leaf] = {}
        """By number of a gradient's storage, the leaf that the gradient is for."""
        self._held: dict[Leaf, tuple[int, int, TensorSpec]] = {}
        """The gradients to which the engine has added in place: key and number of the storage."""

    def _run(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Run and note any operator."""
        raise NotImplementedError

    # ------------------------------------------------------------------ layers

    def _run_layer(
        self, layer: Layer, inner: Callable[..., Any], args: Args, call: OpenCall, around: Counting
    ) -> Any:
        """Run a layer without gradients, or note what it did in an equal call.

        ``around`` is what is done around the layer about calls of Python functions.
        """
        simulation, tracker = self.simulation, self.storages
        if simulation is None or not self._keep_ops or self.composites is not None:
            return inner(*args)
        if self.phase is Phase.BACKWARD or self.threads.is_several or not is_alone():
            return inner(*args)
        held, keys = layer.held(), list[int]()
        key = None if held is None else simulation.remembered.layer_key(layer, args, held, keys)
        storages: list[Any] = list(map(tracker.live.get, keys))
        if key is None or None in storages:
            return inner(*args)
        known = self._layers.get(key, NEW)
        if known is NEW:
            if around is Counting.OFF:  # a function in the place of PyTorch's would go unseen
                return inner(*args)
            return self._run_new_layer(key, inner, args, call, keys, storages)
        if known is None:
            return inner(*args)
        if self._product is not None:
            self._note_kept_number()
        _, spec, sources = known
        if simulation.values.holds_any(keys) and simulation.values.holds_all(
            [keys[place] for place in sources]
        ):
            return inner(*args)  # what comes out is known as well
        with without_dispatch():
            output: torch.Tensor = made_as(spec)
        self._note_layer(known, output, call, storages)
        return output

    def _run_new_layer(
        self,
        key: tuple[Any, ...],
        inner: Callable[..., Any],
        args: Args,
        call: OpenCall,
        keys: list[int],
        storages: list[int],
    ) -> Any:
        """Run a layer, and keep what it did where that may stand for another call."""
        tracker, made = self.storages, self.storages.count
        self.python.resume(Counting.ON)
        output = inner(*args)
        self.python.pause()
        self._layers[key] = None
        events = [(index, is_free) for index, is_free, _ in tracker.events[call.first_event :]]
        if not call.python_calls:
            steps = steps_of(self._ops[call.first_op :], storages, [made])
            with without_dispatch():
                is_tensor = type(output) is torch.Tensor
                spec = spec_of(output.detach() if is_tensor else output, keys)
            if events == [(made, False)] and steps and spec is not None:
                maker = next(step for step in steps if step.made)
                self._layers[key] = steps, spec, maker.reads
        call.python_calls = 0
        return output

    def _note_layer(
        self, known: KnownLayer, output: torch.Tensor, call: OpenCall, storages: list[int]
    ) -> None:
        """Note the operators of a layer that was not run."""
        self._note_steps(known[0], [*storages], iter((output,)), call.index)

    def _note_steps(
        self, steps: Sequence[Step], places: list[int], made: Iterator[Any], call: int
    ) -> None:
        """Note operators that were not run.

        ``places`` are the storages that are known to them; those of the tensors that are ``made``
        come behind.
        """
        tracker, phase, ops = self.storages, self.phase, self._ops
        for step in steps:
            for _ in range(step.made):
                places.append(tracker.index_of(next(made), call))
            reads = step.read(places)
            writes = reads if step.written is None else step.written(places)
            ops.append(
                (step.facts, step.noted, (), step.specs, call, phase, False, reads, writes,
                 step.layouts)
            )  # fmt: skip
            tracker.op += 1

    # ------------------------------------------------------------------ plain operators

    def _run_plain(self, func: Any, args: Args) -> Any:
        facts = facts_of(func)
        if facts.is_plain:
            if facts.may_be_view:
                return self._run_plain_view(func, facts, args)
            return self._run_remembered(func, facts, args)
        if func is SUM and self.phase is Phase.BACKWARD:
            return self._run_sum_of_engine(args)
        return NotImplemented

    def _run_remembered(self, func: Any, facts: OpFacts, args: Args) -> Any:
        """Run and note an operator that makes what it made of like arguments before."""
        simulation = self.simulation
        assert simulation is not None
        keys: list[int] = []
        key = simulation.remembered.key(func, facts, args, {}, keys)
        if key is None or simulation.values.holds_all(keys):
            return NotImplemented
        if not self._keep_ops:
            answer = simulation.remembered.known(key)
            return NotImplemented if answer is None else again(answer)
        found = self._plain.get(key)
        reads = list(map(self.storages.live.get, keys))
        if found is None or None in reads:
            output = self._run(func, args, {})
            answer = simulation.remembered.known(key)
            if answer is not None:
                _, noted, _, specs, *_, layouts = self._ops[-1]
                self._plain[key] = noted, tuple(specs), tuple(layouts), answer
            return output
        noted, specs, layouts, answer = found
        output = again(answer)
        self._note_plain(facts, noted, specs, reads, output, layouts)
        return output

    def _run_plain_view(self, func: Any, facts: OpFacts, args: Args) -> Any:
        """Run and note a view of dense tensors."""
        assert self.simulation is not None
        noted: list[Any] = []
        keys: list[int] = []
        for value in args:
            kind = type(value)
            if kind in ORDINARY:
                if not value.is_meta or is_irregular(value):
                    return NotImplemented
                noted.append(self.specs.of_dense(value))
                keys.append(storage_key(value.untyped_storage()))
            elif kind is int or kind is bool or value is None:
                noted.append(value)
            elif kind is list and all(type(item) is int for item in value):
                noted.append(tuple(value))
            else:
                return NotImplemented
        reads = list(map(self.storages.live.get, keys))
        if (self._keep_ops and None in reads) or self.simulation.values.holds_any(keys):
            return NotImplemented
        try:
            output = func(*args)
        except Exception:  # it fails again, and is explained
            return NotImplemented
        if not self._keep_ops:
            return output
        self._note_plain(facts, tuple(noted), (self.specs.of_dense(output),), reads, output, ())
        return output

    def _run_sum_of_engine(self, args: Args) -> Any:
        """Note the sum of two gradients of one tensor, which the engine makes in place if it can.

        Gradients of one shape that lie row by row: then it is clear what the sum looks like.
        """
        simulation, node = self.simulation, current_autograd_node()
        assert simulation is not None
        if node is None or self._is_in_hook or self.stack or len(args) != 2 or not self._keep_ops:
            return NotImplemented
        keys: list[int] = []
        for value in args:
            if type(value) is not torch.Tensor or not value.is_meta or is_irregular(value):
                return NotImplemented
            keys.append(storage_key(value.untyped_storage()))
        old, new = args
        reads: list[Any] = list(map(self.storages.live.get, keys))
        if (
            None in reads
            or simulation.values.holds_any(keys)
            or old.shape != new.shape
            or old.dtype is not new.dtype
            or not (old.dtype.is_floating_point and old.is_contiguous() and new.is_contiguous())
        ):
            return NotImplemented
        is_in_place = is_last_reference(args, {}, node) and not self._is_of_formula(old, node)
        if not is_in_place and writes_over(node):
            return NotImplemented
        facts = facts_of(SUM_IN_PLACE if is_in_place else SUM)
        output = old if is_in_place else torch.empty(old.shape, dtype=old.dtype, device=META)
        spec = self.specs.of_dense(old)
        held, added = reads
        if is_in_place and added in self._leaves:
            self._held[self._leaves[added]] = keys[0], held, spec
        self._note_plain(facts, (spec, spec), (spec,), reads, output, ())
        return output

    def _note_sums_before(self, func: Any, args: Args) -> None:
        """Note the sums that wait and come before an operator.

        All do, unless the engine sums what the same node returned, or gives a leaf its gradient:
        both come before a ``t`` that a gradient still goes through.
        """
        node = current_autograd_node()
        if node is not None and func is SUM and node_sequence_nr(node) == self._sums[0].node:
            self.note_sums(args[1], are_all=False)
            return
        leaf = None if node is None else node_variable(node)
        is_other = leaf is not None and self._sums[-1].leaf not in self._storages_of(leaf)
        self.note_sums(are_all=not is_other)

    def _note_plain(
        self,
        facts: OpFacts,
        noted: tuple[Any, ...],
        specs: tuple[TensorSpec, ...],
        reads: list[Any],
        output: torch.Tensor,
        layouts: Sequence[Any],
    ) -> None:
        storages, stack, phase = self.storages, self.stack, self.phase
        node = current_autograd_node() if phase is Phase.BACKWARD else None
        call = stack[-1].index if stack else -1 if node is None else self._call_of_node(node)
        writes = [storages.index_of(output, call)]
        recompute = node is not None and bool(stack)
        self._ops.append((facts, noted, (), specs, call, phase, recompute, reads, writes, layouts))
        storages.op += 1

    def _note_kept_number(self) -> None:
        """Note the number that autograd keeps as a tensor since the last product, if it does."""
        assert self._product is not None
        (output, call), self._product = self._product, None
        number = saved_factor(output())
        if number is not None:
            self.storages.note_kept(number, call)
