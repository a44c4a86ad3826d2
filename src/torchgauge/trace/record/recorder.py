"""The one dispatch mode: every operator, storage and module call of a run, in order.

In a simulated run it also keeps the run on the meta device: factories make meta tensors, CPU
constants get meta copies, and small values are computed as well (``values.py``). In a real run it
only watches.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from torchgauge.facts.trace import Phase
from torchgauge.trace.inspect.bitsandbytes import CPU_KERNELS, GPU_KERNELS, assumption
from torchgauge.trace.inspect.describe import tensors_in
from torchgauge.trace.inspect.irregular import (
    irregular_in,
    is_coordinates,
    is_recorded_inside,
    meetings,
    refuse,
    sparse_alias,
)
from torchgauge.trace.inspect.subclasses import ORDINARY, any_wrapper
from torchgauge.trace.inspect.wrappers import is_of_distributed
from torchgauge.trace.operators.op_facts import OpFacts, facts_of
from torchgauge.trace.operators.operand_dtypes import check_operand_dtypes
from torchgauge.trace.python.python_calls import Counting
from torchgauge.trace.record.in_place import (
    SUM,
    SUM_IN_PLACE,
    as_in_backward,
    in_place,
    is_bias_of_linear,
    last_reference,
    references_in_linear,
)
from torchgauge.trace.record.inside_kernels import (
    HALF_ON_CPU,
    AutocastInside,
    in_float32,
    lacks_half,
)
from torchgauge.trace.record.kept_numbers import KEPT, keeps_number, takes_kept_number
from torchgauge.trace.record.kernel_memory import frees_unseen, is_opaque, run_measured
from torchgauge.trace.record.recording import CompositeCall, Operands
from torchgauge.trace.record.trained_layers import TrainedLayers
from torchgauge.trace.shapes.fourier import fourier_scratch
from torchgauge.trace.shapes.layouts import layout_of
from torchgauge.trace.shapes.rule import Args, Kwargs
from torchgauge.trace.torch_internals.autograd import current_autograd_node, node_variable
from torchgauge.trace.torch_internals.kernels import call_kernel, irregular_kernel
from torchgauge.trace.torch_internals.modes import (
    DispatchMode,
    is_in_meta_kernel,
    without_torch_function,
)
from torchgauge.trace.values.readers import CPU
from torchgauge.trace.values.simulation import INDEXING, Simulation

_CLONE = "aten.clone.default"
_MATMUL = "aten.matmul.default"
_COPY = "aten._to_copy.default"
_READ = "aten._local_scalar_dense.default"
_SCALARS = (int, float, bool, str, type(None))


class Recorder(TrainedLayers, DispatchMode):
    """Record what runs while the mode is active.

    ``simulation`` is ``None`` for a real run. With ``keep_ops=False`` only module calls are
    kept, which is enough to learn shapes.
    """

    def __init__(
        self,
        *,
        device: str,
        simulation: Simulation | None,
        kernels: Mapping[str, Callable[..., Any]] | None = None,
        fused: Iterable[str] = (),
        keep_ops: bool = True,
    ) -> None:
        super().__init__(device=device, simulation=simulation, keep_ops=keep_ops)
        last_reference()
        references_in_linear()
        self.assumptions: list[str] = []
        self.autocast = AutocastInside({})
        self.stands_for_gpu = False
        """Whether a real run on the CPU takes the place of one on a GPU."""
        self.is_inside_operator = False
        """Whether a kernel runs now, not the model's code."""
        self.pads_nested = False
        """Whether nested tensors were multiplied, which is done on padded ones."""
        self.on_read: Callable[[torch.Tensor, int], None] | None = None
        """Called with each tensor whose value is read, and the module call that reads it."""
        self.sees_shards = False
        """Whether an operator took a tensor that is distributed over ranks."""
        self.sees_collectives = False
        """Whether an operator would send tensors to other processes, or wait for them."""
        self.inside: Mapping[str, Callable[..., Any]] = {}
        """Kernels that are run by the operators that they call; may return ``NotImplemented``."""
        self._measures = simulation is None and self._is_cpu and keep_ops
        self._fused = frozenset(f"aten.{name}.default" for name in fused)
        self._kernels = {
            f"aten.{name}" if "." in name else f"aten.{name}.default": kernel
            for name, kernel in (kernels or {}).items()
        }

    def _follows_product(self) -> bool:
        """Return whether a matrix product came last, seen in another shape: ``linear`` or not."""
        return any(before[0].base in ("mm", "bmm", "mv") for before in self._ops[-3:])

    def in_hook(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return a hook on a parameter during which no operator is taken for the engine's."""

        def run(*args: Any) -> Any:
            was_in, self._is_in_hook = self._is_in_hook, True
            try:
                return hook(*args)
            finally:
                self._is_in_hook = was_in

        return run

    # ------------------------------------------------------------------ operators

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        """Run one operator and note it.

        Where an argument's class runs its operators itself, what it runs them by comes here: the
        operators of a DTensor's shards, those of what is inside a quantized weight.
        """
        for kind in types:
            if kind in ORDINARY:
                continue
            if any(map(is_of_distributed, types)):
                self.sees_shards = True
                return NotImplemented
            if any_wrapper(types):
                return NotImplemented
            if any(other.__name__ == "FakeTensor" for other in types):
                return func(*args, **kwargs or {})  # DTensor tries out what the result looks like
            break
        if not self.threads.is_several:
            return self._run_as_operator(func, args, kwargs or {})
        with self.threads.lock:
            if not self.threads.note_op():  # the run is over, this thread is not
                return func(*args, **kwargs or {})
            return self._run_as_operator(func, args, kwargs or {})

    def _run_as_operator(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        python = self.python
        state = python.pause() if python.is_on else Counting.OFF
        was_inside, self.is_inside_operator = self.is_inside_operator, True
        try:
            if self._product is not None:
                self._note_kept_number()
            if self._sums:
                self._note_sums_before(func, args)
            if self._takes_plain and not kwargs:
                output = self._run_plain(func, args)
                if output is not NotImplemented:
                    return output
            with without_torch_function():  # looking at an argument is none of its class's business
                return self._run(func, args, kwargs)
        finally:
            self.is_inside_operator = was_inside
            if state is not Counting.OFF:
                python.resume(state)

    def _run(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        is_sum = func is SUM and (self.phase is not Phase.BACKWARD or self.stack)
        if is_sum and is_bias_of_linear(args, kwargs) and self._follows_product():
            func, args = SUM_IN_PLACE, in_place(args)
        facts = facts_of(func)
        output: Any = NotImplemented
        if (
            facts.is_composite
            and facts.name not in self._fused
            and (self.simulation is not None or irregular_in(args) is None)
        ):
            output = self._run_composite(func, facts, args, kwargs)
        if output is NotImplemented:
            self.sees_collectives |= facts.is_collective
            if facts.is_written_in_operators:
                with self:
                    return call_kernel(func, *args, **kwargs)
            if facts.is_of_bitsandbytes:
                output = self._run_inside(func, facts, args, kwargs)
        if output is NotImplemented and facts.name in self.inside:
            with self:
                output = self.inside[facts.name](*args, **kwargs)
        if output is NotImplemented:
            return self._run_kernel(func, facts, args, kwargs)
        return output

    def _run_composite(self, func: Any, facts: OpFacts, args: Args, kwargs: Kwargs) -> Any:
        """Run an operator by those that it calls."""
        first_op = len(self._ops)
        with self:
            replacement = self._kernels.get(facts.name)
            output = (replacement or func.decompose)(*args, **kwargs)
        if output is not NotImplemented and self.composites is not None:
            operands = Operands(args, kwargs, self.specs)
            self.composites.append(
                CompositeCall(
                    name=facts.name,
                    args=operands.noted,
                    kwargs=tuple(operands.noted_kwargs),
                    outputs=tuple(self.specs.of(tensor) for tensor in tensors_in(output)),
                    call=self.stack[-1].index if self.stack else -1,
                    first_op=first_op,
                    end_op=len(self._ops),
                )
            )
        return output

    def _run_kernel(self, func: Any, facts: OpFacts, args: Args, kwargs: Kwargs) -> Any:
        """Run an operator that computes something itself, and note it."""
        simulation, storages, stack = self.simulation, self.storages, self.stack
        try:
            operands = Operands(args, kwargs, self.specs)
        except RuntimeError:
            if any(isinstance(value, torch.Tensor) and is_lazy(value) for value in args):
                return func(*args, **kwargs)  # a parameter without a shape is being given one
            raise
        if simulation is not None and operands.is_foreign:
            args, kwargs, operands = self._on_meta(simulation, facts, args, kwargs, operands)
        to_host = simulation is not None and facts.name == _COPY and kwargs.get("device") == CPU
        is_itself = to_host and self._is_cpu and kwargs.get("dtype") in (None, args[0].dtype)
        if simulation is not None and is_itself:
            return simulation.on_cpu(args[0])
        node = current_autograd_node() if self.phase is Phase.BACKWARD else None
        if node is not None:
            own = self._is_in_hook or (func is SUM and self._is_of_formula(args[0], node))
            func = as_in_backward(func, args, kwargs, node, by_engine=not own)
            facts = facts_of(func)
        if facts.name == _CLONE and node_variable(node) is not None and is_coordinates(args[0]):
            return sparse_alias(args[0])  # the engine clones because the recorder holds it as well
        call = stack[-1].index if stack else -1 if node is None else self._call_of_node(node)
        if facts.name == _READ and self.on_read is not None:
            self.on_read(args[0], call)
        if simulation is not None and facts.base in INDEXING:
            simulation.note_index(args[1], storages.live)
        reads = [storages.index_of(tensor, call) for tensor in operands.tensors + operands.parts]
        layouts = [layout_of(t) for t in operands.tensors] if facts.reads_layouts else ()
        first_op = len(self._ops)
        kernel = self._kernel_to_look_into(func, facts, args, operands)
        try:
            output, workspace = self._compute(func, facts, args, kwargs, operands, kernel)
        except Exception as error:
            self._note_failure(error, facts, operands, -1 if node is None else call)
            raise
        if not self._keep_ops or facts.is_marker or (facts.is_primitive and is_in_meta_kernel()):
            return output
        if kernel is not None and operands.irregular is not None:
            inner = ((other.name, arguments) for other, arguments, *_ in self._ops[first_op:])
            if is_recorded_inside(facts.name, inner, nested=operands.irregular.is_nested):
                self.pads_nested |= facts.name == _MATMUL and operands.irregular.is_nested
                return output
            operands.noted_kwargs += meetings(facts.name, args)
        by_engine = node is not None and not self._is_in_hook and not stack
        if by_engine and self._is_cpu and takes_kept_number(facts.name, args, node):
            operands.noted_kwargs.append((KEPT, True))
        if facts.is_fourier:
            operands.noted_kwargs += fourier_scratch(facts.base, args)
        recompute = node is not None and bool(stack)
        writes = self._note_op(
            facts, operands, output, call, reads, layouts, workspace=workspace, recompute=recompute
        )
        for index in writes if to_host and not self._is_cpu else ():
            storages.set_host(index)
        if self._is_cpu and keeps_number(facts.name, args):
            self._product = (weakref.ref(output), call)
        return output

    def _on_meta(
        self, simulation: Simulation, facts: OpFacts, args: Args, kwargs: Kwargs, operands: Operands
    ) -> tuple[tuple[Any, ...], dict[str, Any], Operands]:
        """Return the arguments with a meta copy in place of each real tensor."""
        # A constant that is just being made has no other reference that could find its copy.
        args = simulation.on_meta(args, keep=facts.name != "aten.lift_fresh.default")
        kwargs = {name: simulation.on_meta(value) for name, value in kwargs.items()}
        on_meta = Operands(args, kwargs, self.specs)
        on_meta.noted, on_meta.noted_kwargs = operands.noted, operands.noted_kwargs
        for original, copied in zip(operands.tensors, on_meta.tensors, strict=True):
            self.storages.stand_in(copied, original)
        return args, kwargs, on_meta

    def _kernel_to_look_into(
        self, func: Any, facts: OpFacts, args: Args, operands: Operands
    ) -> Callable[..., Any] | None:
        """Return the kernel of sparse or nested tensors whose own operators are recorded."""
        if self.simulation is not None:
            return None
        inspected = operands.irregular
        if (facts.makes_sparse or facts.makes_nested) and inspected is None and operands.tensors:
            inspected = operands.tensors[0]
        return None if inspected is None else irregular_kernel(func, args, inspected)

    def _compute(
        self,
        func: Any,
        facts: OpFacts,
        args: Args,
        kwargs: Kwargs,
        operands: Operands,
        kernel: Callable[..., Any] | None,
    ) -> tuple[Any, int]:
        """Return what an operator returns, and the bytes of a workspace that was measured."""
        simulation = self.simulation
        if kernel is not None:
            return self._run_irregular(func, facts, kernel, args, kwargs), 0
        if self._measures and is_opaque(facts.name, operands.tensors):
            return run_measured(lambda: func(*args, **kwargs), unseen=frees_unseen(facts.name))
        if simulation is None:
            return func(*args, **kwargs), 0
        check_operand_dtypes(facts.name, args)
        return simulation.run(func, facts, args, kwargs, operands.tensors), 0

    def _note_failure(
        self, error: Exception, facts: OpFacts, operands: Operands, call: int
    ) -> None:
        """Note the ``call`` that failed in a backward; explain an operator without data."""
        is_refused = operands.irregular is not None or facts.makes_sparse
        if is_refused and self.simulation is not None and isinstance(error, NotImplementedError):
            refuse(nested=False)
        if call >= 0 and self.failed_call is None:
            self.failed_call = self.calls[call]  # in the backward no module is running

    def _run_irregular(
        self, func: Any, facts: OpFacts, kernel: Callable[..., Any], args: Args, kwargs: Kwargs
    ) -> Any:
        """Run a kernel of sparse or nested tensors so that what it calls is recorded.

        One that a GPU has and the CPU lacks in half precision runs in float32.
        """
        try:
            with self.autocast.reopened(facts.name), self:
                return kernel(*args, **kwargs)
        except RuntimeError as error:  # no NotImplementedError in 2.6
            if facts.is_mutating or not (self.stands_for_gpu and lacks_half(error)):
                raise
        self.assumptions.append(HALF_ON_CPU)
        return in_float32(func, args, kwargs)

    def _run_inside(self, func: Any, facts: OpFacts, args: Args, kwargs: Kwargs) -> Any:
        """Run a library's kernel by the operators that it calls, so that each is noted."""
        simulation = self.simulation
        kernels = CPU_KERNELS if self._is_cpu else {} if simulation is None else GPU_KERNELS
        if simulation is not None:
            self.assumptions.append(assumption(facts.name, args, is_cpu=self._is_cpu))
        if facts.name not in kernels:
            return NotImplemented
        no_outliers = nullcontext() if simulation is None else simulation.values.assumed(0.0)
        with self, no_outliers:
            return kernels[facts.name](func)(*args, **kwargs)
