"""Calls of modules: when each begins and ends, and which one a backward node belongs to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import torch

from torchgauge.facts.trace import Phase
from torchgauge.trace.copy.restored import local_part
from torchgauge.trace.inspect.describe import call_inputs, call_outputs, parameter_names, tensors_in
from torchgauge.trace.inspect.irregular import is_irregular
from torchgauge.trace.inspect.subclasses import stored_tensors
from torchgauge.trace.operators.repeated import Layer
from torchgauge.trace.python.python_calls import Counting, PythonCalls
from torchgauge.trace.record.recording import OpenCall, Recording
from torchgauge.trace.shapes.rule import Args
from torchgauge.trace.torch_internals.autograd import (
    NO_SEQUENCE_NR,
    current_autograd_node,
    next_sequence_nr,
    node_sequence_nr,
)
from torchgauge.trace.torch_internals.tensors import storage_key, without_transforms
from torchgauge.trace.values.simulation import Simulation


class ModuleCalls(Recording):
    """Notes each call of a module, and finds the call of an operator."""

    def __init__(self, *, device: str, simulation: Simulation | None, keep_ops: bool) -> None:
        super().__init__(device=device, simulation=simulation, keep_ops=keep_ops)
        self.python = PythonCalls(self.stack)
        self._boundaries: list[int] = [0]
        """Numbers of backward nodes from which on another module call made them, in order."""
        self._boundary_calls: list[int] = [-1]
        self._node = (-1, 0)
        """The number of the backward node that runs, and its first op."""

    def wrap_forward(
        self,
        path: str,
        inner: Callable[..., Any],
        function: Callable[..., Any],
        *,
        counting: Counting = Counting.ON,
        observe: Callable[[int, tuple[Any, ...], Any], None] | None = None,
        layer: Layer | None = None,
    ) -> Callable[..., Any]:
        """Return a forward that notes each call of ``inner`` under ``path``.

        ``counting`` says whether it can call a Python function that counts. ``observe`` gets the
        index of each call, its positional arguments and what it returned. A ``layer`` is not run
        where it is known what it does.
        """
        names = parameter_names(function)

        python, is_foreign = self.python, self.threads.is_foreign

        def watched(state: Counting, args: Args, kwargs: Mapping[str, Any]) -> Any:
            call = self._enter(path, names, args, kwargs)
            try:
                if self._keep_ops and call.parent < 0:
                    python.start(counting)
                elif state is not Counting.OFF:
                    python.resume(counting)
                try:
                    if layer is None or kwargs:
                        output = inner(*args, **kwargs)
                    elif torch.is_grad_enabled():
                        output = self._run_trained_layer(layer, inner, args, call, state)
                    else:
                        output = self._run_layer(layer, inner, args, call, state)
                finally:
                    python.pause()
                call.outputs = call_outputs(output, self.specs)
                call.output_storages = self._storages_of(output)
                call.completed = True
                if observe is not None:
                    observe(call.index, args, output)
            except BaseException:
                if self.failed_call is None:
                    self.failed_call = call
                raise
            finally:
                self._leave(call)
                python.resume(state)
            return output

        def forward(*args: Any, **kwargs: Any) -> Any:
            state = python.pause()  # first: to count calls takes time
            if is_foreign():
                return self.threads.in_thread(watched)(state, args, kwargs)
            return watched(state, args, kwargs)

        forward.__wrapped__ = inner  # type: ignore[attr-defined]  # signatures follow it
        return forward

    def _run_layer(
        self, layer: Layer, inner: Callable[..., Any], args: Args, call: OpenCall, around: Counting
    ) -> Any:
        """Run a layer that an equal call of may have been recorded."""
        return inner(*args)

    def _run_trained_layer(
        self, layer: Layer, inner: Callable[..., Any], args: Args, call: OpenCall, around: Counting
    ) -> Any:
        """Run a layer with gradients that an equal call of may have been recorded."""
        return inner(*args)

    def _enter(
        self, path: str, names: tuple[str, ...], args: Args, kwargs: Mapping[str, Any]
    ) -> OpenCall:
        with self.threads.lock:
            if self._sums:
                self.note_sums()
            stack = self.stack
            call = OpenCall(
                len(self.calls),
                path,
                stack[-1].index if stack else -1,
                call_inputs(names, args, kwargs, self.specs),
                first_op=len(self._ops),
                first_event=len(self.storages.events),
                phase=self.phase,
            )
            self.calls.append(call)
            stack.append(call)
            self._boundaries.append(next_sequence_nr())
            self._boundary_calls.append(call.index)
        return call

    def _leave(self, call: OpenCall) -> None:
        stack = self.stack
        while stack and stack.pop() is not call:
            pass
        call.end_op = len(self._ops)
        call.end_event = len(self.storages.events)
        self._boundaries.append(next_sequence_nr())
        self._boundary_calls.append(stack[-1].index if stack else -1)

    def _storages_of(self, output: Any) -> tuple[int, ...]:
        live = self.storages.live
        if type(output) is torch.Tensor and not is_irregular(output):
            index = live.get(storage_key(without_transforms(output).untyped_storage()))
            return () if index is None else (index,)
        tensors = [
            without_transforms(part)
            for tensor in tensors_in(output)
            for part in stored_tensors(local_part(tensor))
        ]
        keys = [storage_key(t.untyped_storage()) for t in tensors if t.layout is torch.strided]
        return tuple(dict.fromkeys(live[key] for key in keys if key in live))

    def note_made(self, tensor: torch.Tensor) -> None:
        """Note a tensor in host memory that no operator made."""
        with self.threads.lock:
            index = self.storages.index_of(tensor, self.current_call())
            if not self._is_cpu:
                self.storages.set_host(index)

    def current_call(self) -> int:
        """Return the innermost module call, in a backward the one whose forward it is for."""
        if self.stack:
            return self.stack[-1].index
        node = current_autograd_node() if self.phase is Phase.BACKWARD else None
        return -1 if node is None else self._call_of_node(node)

    def _call_of_node(self, node: Any) -> int:
        number = node_sequence_nr(node)
        if number >= NO_SEQUENCE_NR:
            return -1
        if number != self._node[0]:
            self._node = number, self.storages.op
        return self._boundary_calls[bisect_right(self._boundaries, number) - 1]

    def _is_of_formula(self, tensor: Any, node: Any) -> bool:
        """Return whether a backward node made a tensor only to go on computing with it.

        The engine adds to what the same node has made as well, if two of its gradients go to one
        place.
        """
        number, first_op = self._node
        if not isinstance(tensor, torch.Tensor) or is_irregular(tensor):
            return False
        if node_sequence_nr(node) != number or self.storages.made_at(tensor) < first_op:
            return False
        places = [edge for edge in node.next_functions if edge[0] is not None]
        return len(set(places)) == len(places)
