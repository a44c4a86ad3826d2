"""The one dispatch mode: every operator, storage and module call of a run, in order.

In a simulated run it also keeps the run on the meta device: factories make meta tensors, CPU
constants get meta twins, and small values are computed beside (``values.py``). In a real run it
only watches.
"""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from torchgauge.facts.trace import (
    ArgumentValue,
    ModuleCall,
    NamedValue,
    OpRecord,
    Phase,
    TensorSpec,
)
from torchgauge.trace.copy.restored import local_part
from torchgauge.trace.inspect.bitsandbytes import CPU_KERNELS, GPU_KERNELS, assumption
from torchgauge.trace.inspect.describe import (
    SpecTable,
    argument,
    call_inputs,
    call_outputs,
    parameter_names,
    tensors_in,
)
from torchgauge.trace.inspect.irregular import (
    dense_parts,
    irregular_in,
    is_coordinates,
    is_irregular,
    is_recorded_inside,
    meetings,
    refuse,
    sparse_alias,
)
from torchgauge.trace.inspect.subclasses import ORDINARY, any_wrapper, stored_tensors
from torchgauge.trace.inspect.wrappers import is_of_distributed
from torchgauge.trace.operators.fourier import fourier_scratch
from torchgauge.trace.operators.linear_bias import in_place, is_bias_of_linear, references_in_linear
from torchgauge.trace.operators.op_facts import OpFacts, facts_of
from torchgauge.trace.operators.operand_dtypes import check_operand_dtypes
from torchgauge.trace.operators.remembered import Made, again, spec_of
from torchgauge.trace.operators.repeated import NEW, Layer, Step, steps_of
from torchgauge.trace.operators.shape_rules import META, layout_of
from torchgauge.trace.python.python_calls import Counting, PythonCalls
from torchgauge.trace.python.threads import Threads
from torchgauge.trace.record.accumulation import (
    SELECTIONS,
    SUM,
    SUM_IN_PLACE,
    WRITTEN_OVER,
    is_last_reference,
    is_of_selection,
    is_written_over,
    last_reference,
    writes_over,
)
from torchgauge.trace.record.inside_kernels import (
    HALF_ON_CPU,
    AutocastInside,
    in_float32,
    lacks_half,
)
from torchgauge.trace.record.kept_numbers import KEPT, keeps_number, saved_factor, takes_kept_number
from torchgauge.trace.record.kernel_memory import frees_unseen, is_opaque, run_measured
from torchgauge.trace.record.storages import StorageTracker
from torchgauge.trace.torch_internals.autograd import (
    NO_SEQUENCE_NR,
    current_autograd_node,
    next_sequence_nr,
    node_sequence_nr,
    node_variable,
)
from torchgauge.trace.torch_internals.kernels import call_kernel, irregular_kernel
from torchgauge.trace.torch_internals.modes import (
    DispatchMode,
    is_alone,
    without_dispatch,
    without_torch_function,
)
from torchgauge.trace.torch_internals.tensors import storage_key, without_transforms
from torchgauge.trace.values.readers import CPU
from torchgauge.trace.values.simulation import INDEXING, Simulation

_CLONE = "aten.clone.default"
_MATMUL = "aten.matmul.default"
_COPY = "aten._to_copy.default"
_READ = "aten._local_scalar_dense.default"
_SCALARS = (int, float, bool, str, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeCall:
    """An operator that only calls others, as the model called it."""

    name: str
    args: tuple[ArgumentValue, ...]
    kwargs: tuple[tuple[str, ArgumentValue], ...]
    outputs: tuple[TensorSpec, ...]
    call: int
    """Index of the innermost module call, -1 outside."""
    first_op: int
    """Ops ``first_op <= i < end_op`` are what it called."""
    end_op: int


class _OpenCall:
    """A module call while it runs."""

    __slots__ = ("completed", "end_event", "end_op", "first_event", "first_op", "index", "inputs",
                 "output_storages", "outputs", "parent", "path", "phase",
                 "python_calls")  # fmt: skip
    end_op: int
    end_event: int

    def __init__(
        self,
        index: int,
        path: str,
        parent: int,
        inputs: tuple[NamedValue, ...],
        *,
        first_op: int,
        first_event: int,
        phase: Phase,
    ) -> None:
        self.index = index
        self.path = path
        self.parent = parent
        self.inputs = inputs
        self.first_op = first_op
        self.first_event = first_event
        self.phase = phase
        self.outputs: tuple[NamedValue, ...] = ()
        self.output_storages: tuple[int, ...] = ()
        self.completed = False
        self.python_calls = 0


class _Found:
    """The arguments of one operator: their specs, and the tensors among them."""

    __slots__ = ("irregular", "is_foreign", "parts", "tensors")

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []
        self.irregular: torch.Tensor | None = None
        """The last sparse or nested tensor."""
        self.parts: list[torch.Tensor] = []
        """The dense tensors inside the sparse and nested ones."""
        self.is_foreign = False
        """Whether a tensor is not on the meta device."""

    def note_all(self, values: Sequence[Any], specs: SpecTable) -> tuple[Any, ...]:
        """Return the specs of several arguments."""
        return tuple([self.note(value, specs) for value in values])

    def note(self, value: Any, specs: SpecTable) -> Any:
        """Return an argument as plain data and remember the tensors in it."""
        if isinstance(value, torch.Tensor):
            if not value.is_meta:
                self.is_foreign = True
            if not is_irregular(value):
                self.tensors.append(value)
                return specs.of_dense(value)
            self.irregular = value
            self.parts += dense_parts(value)
            return specs.of(value)
        if isinstance(value, _SCALARS):
            return value
        if isinstance(value, (list, tuple)):
            return self.note_all(value, specs)
        return argument(value, specs)


class Recorder(DispatchMode):
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
        super().__init__()
        last_reference()
        references_in_linear()
        self.specs = SpecTable(device)
        self.storages = StorageTracker()
        self.simulation = simulation
        self.phase = Phase.FORWARD
        self.threads = Threads(simulated=simulation is not None)
        self.calls: list[_OpenCall] = []
        self.failed_call: _OpenCall | None = None
        self.assumptions: list[str] = []
        self.autocast = AutocastInside({})
        self.stands_for_gpu = False
        """Whether a real run on the CPU takes the place of one on a GPU."""
        self.is_inside_operator = False
        """Whether a kernel runs now, not the model's code."""
        self._is_in_hook = False
        """Whether a hook on a parameter runs now, whose sums are not the engine's."""
        self.owners: dict[int, int] = {}
        """Call of a parameter's owner by the identity of the parameter."""
        self._ops: list[tuple[Any, ...]] = []
        self._boundaries: list[int] = [0]
        self._boundary_calls: list[int] = [-1]
        self.composites: list[CompositeCall] | None = None
        """Where to note calls of composite operators, which only inference mode shows whole."""
        self.pads_nested = False
        """Whether nested tensors were multiplied, which is done on padded ones."""
        self.on_read: Callable[[torch.Tensor, int], None] | None = None
        """Hears of each tensor whose value is read, and in which call."""
        self.sees_shards = False
        """Whether an operator took a tensor that is distributed over ranks."""
        self.sees_collectives = False
        """Whether an operator would send tensors to other processes, or wait for them."""
        self.inside: Mapping[str, Callable[..., Any]] = {}
        """Kernels that are run by the operators that they call; may return ``NotImplemented``."""
        self._product: tuple[weakref.ref[torch.Tensor], int] | None = None
        """The last result of a tensor and a number, and its call, until the next operator."""
        self._keep_ops = keep_ops
        self._takes_plain = simulation is not None
        self._plain: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        """What to note of operators that were run before, and their answers."""
        self._layers: dict[
            tuple[Any, ...], tuple[tuple[Step, ...], Made, tuple[int, ...]] | None
        ] = {}
        """What layers did, what they returned and the places that it was made from; ``None`` where
        that stands for no other call."""
        self.python = PythonCalls(self.stack)
        self._is_cpu = device == "cpu"
        self._measures = simulation is None and self._is_cpu and keep_ops
        self._fused = frozenset(f"aten.{name}.default" for name in fused)
        self._kernels = {
            f"aten.{name}" if "." in name else f"aten.{name}.default": kernel
            for name, kernel in (kernels or {}).items()
        }

    # ------------------------------------------------------------------ module calls

    @property
    def stack(self) -> list[_OpenCall]:
        """Return the module calls that are open in this thread."""
        return self.threads.local.stack

    def place(self) -> str:
        """Return the path of the module that runs, ``""`` for the model and outside of it."""
        return self.stack[-1].path if self.stack else ""

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

        def watched(*args: Any, **kwargs: Any) -> Any:
            python = self.python
            state = python.pause()
            call = self._enter(path, names, args, kwargs)
            try:
                if self._keep_ops and call.parent < 0:
                    python.start(counting)
                elif state is not Counting.OFF:
                    python.resume(counting)
                try:
                    if layer is None or kwargs or torch.is_grad_enabled():
                        output = inner(*args, **kwargs)
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

        is_foreign = self.threads.is_foreign

        def forward(*args: Any, **kwargs: Any) -> Any:
            if is_foreign():
                return self.threads.in_thread(watched)(*args, **kwargs)
            return watched(*args, **kwargs)

        forward.__wrapped__ = inner  # type: ignore[attr-defined]  # signatures follow it
        return forward

    def _run_layer(
        self,
        layer: Layer,
        inner: Callable[..., Any],
        args: tuple[Any, ...],
        call: _OpenCall,
        around: Counting,
    ) -> Any:
        """Run a layer without gradients, or note what it did in an equal call.

        ``around`` is what is done around the layer about calls of Python functions.
        """
        simulation, tracker = self.simulation, self.storages
        if simulation is None or not self._keep_ops or self.composites is not None:
            return inner(*args)
        if self.phase is Phase.BACKWARD or self.threads.is_several or not is_alone():
            return inner(*args)
        held, keys = layer.values(), list[int]()
        key = None if held is None else simulation.remembered.layer_key(layer, args, held, keys)
        storages: list[Any] = list(map(tracker.live.get, keys))
        if key is None or None in storages:
            return inner(*args)
        if key not in self._layers:
            if around is Counting.OFF:  # nobody would see a function in the place of PyTorch's
                return inner(*args)
            made = tracker.count
            self.python.resume(Counting.ON)
            output = inner(*args)
            self.python.pause()
            self._layers[key] = None
            events = [(index, is_free) for index, is_free, _ in tracker.events[call.first_event :]]
            if not call.python_calls:
                steps = steps_of(self._ops[call.first_op :], storages, made)
                with without_dispatch():
                    spec = spec_of(output, keys)
                if events == [(made, False)] and steps and spec is not None:
                    maker = next(step for step in steps if NEW in step.writes)
                    self._layers[key] = steps, spec, maker.reads
            call.python_calls = 0
            return output
        known = self._layers[key]
        if known is None:
            return inner(*args)
        if self._product is not None:
            self._note_kept_number()
        steps, spec, sources = known
        if simulation.values.holds_any(keys) and simulation.values.holds_all(
            [keys[place] for place in sources]
        ):
            return inner(*args)  # what comes out is known as well
        with without_dispatch():
            output = again((None, spec))
        places = [*storages, None]  # the last is ``NEW``
        for step in steps:
            if NEW in step.writes and places[NEW] is None:
                places[NEW] = tracker.index_of(output, call.index)
            reads = tuple(map(places.__getitem__, step.reads))
            writes = tuple(map(places.__getitem__, step.writes))
            self._ops.append(
                (step.facts, step.noted, (), step.specs, call.index, self.phase, False, reads,
                 writes, step.layouts)
            )  # fmt: skip
            tracker.op += 1
        return output

    def in_hook(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return a hook on a parameter during which no operator is taken for the engine's."""

        def run(*args: Any) -> Any:
            was_in, self._is_in_hook = self._is_in_hook, True
            try:
                return hook(*args)
            finally:
                self._is_in_hook = was_in

        return run

    def _enter(
        self, path: str, names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> _OpenCall:
        with self.threads.lock:
            stack = self.stack
            call = _OpenCall(
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

    def _leave(self, call: _OpenCall) -> None:
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
        """Note a tensor in main memory that no operator made."""
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
            return self.owners.get(id(node_variable(node)), -1)
        return self._boundary_calls[bisect_right(self._boundaries, number) - 1]

    # ------------------------------------------------------------------ operators

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
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

    def _run_as_operator(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        python = self.python
        state = python.pause() if python.is_on else Counting.OFF
        was_inside, self.is_inside_operator = self.is_inside_operator, True
        try:
            if self._product is not None:
                self._note_kept_number()
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

    # What follows does for operators without laws of their own what ``_run`` does for all. Where
    # more may have to be done, it returns ``NotImplemented``.

    def _run_plain(self, func: Any, args: tuple[Any, ...]) -> Any:
        facts = facts_of(func)
        if facts.is_plain:
            if facts.may_be_view:
                return self._run_plain_view(func, facts, args)
            return self._run_remembered(func, facts, args)
        if func is SUM and self.phase is Phase.BACKWARD:
            return self._run_sum_of_engine(args)
        return NotImplemented

    def _follows_product(self) -> bool:
        """Return whether a matrix product came last, seen in another shape: ``linear`` or not."""
        return any(before[0].base in ("mm", "bmm", "mv") for before in self._ops[-3:])

    def _run_remembered(self, func: Any, facts: OpFacts, args: tuple[Any, ...]) -> Any:
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

    def _run_plain_view(self, func: Any, facts: OpFacts, args: tuple[Any, ...]) -> Any:
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

    def _run_sum_of_engine(self, args: tuple[Any, ...]) -> Any:
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
        reads = list(map(self.storages.live.get, keys))
        if (
            None in reads
            or simulation.values.holds_any(keys)
            or old.shape != new.shape
            or old.dtype is not new.dtype
            or not (old.dtype.is_floating_point and old.is_contiguous() and new.is_contiguous())
        ):
            return NotImplemented
        is_in_place = is_last_reference(args, {}, node)
        if not is_in_place and writes_over(node):
            return NotImplemented
        facts = facts_of(SUM_IN_PLACE if is_in_place else SUM)
        output = old if is_in_place else torch.empty(old.shape, dtype=old.dtype, device=META)
        spec = self.specs.of_dense(old)
        self._note_plain(facts, (spec, spec), (spec,), reads, output, ())
        return output

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

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        is_sum = func is SUM and (self.phase is not Phase.BACKWARD or self.stack)
        if is_sum and is_bias_of_linear(args, kwargs) and self._follows_product():
            func, args = SUM_IN_PLACE, in_place(args)
        facts = facts_of(func)
        if (
            facts.is_composite
            and facts.name not in self._fused
            and (self.simulation is not None or irregular_in(args) is None)
        ):
            first_op = len(self._ops)
            with self:
                replacement = self._kernels.get(facts.name)
                output = (replacement or func.decompose)(*args, **kwargs)
            if output is not NotImplemented:
                if self.composites is not None:
                    self.composites.append(
                        self._composite(facts.name, args, kwargs, output, first_op)
                    )
                return output
        simulation = self.simulation
        self.sees_collectives |= facts.is_collective
        if facts.is_written_in_operators:
            with self:
                return call_kernel(func, *args, **kwargs)
        if facts.is_of_bitsandbytes:
            output = self._run_inside(func, facts, args, kwargs)
            if output is not NotImplemented:
                return output
        if facts.name in self.inside:
            with self:
                output = self.inside[facts.name](*args, **kwargs)
            if output is not NotImplemented:
                return output
        found = _Found()
        try:
            noted = found.note_all(args, self.specs)
        except RuntimeError:
            if any(isinstance(value, torch.Tensor) and is_lazy(value) for value in args):
                return func(*args, **kwargs)  # a parameter without a shape is being given one
            raise
        noted_kwargs = [(name, found.note(value, self.specs)) for name, value in kwargs.items()]
        if simulation is not None and found.is_foreign:
            # A constant that is just being made has no other reference that could find its twin.
            args = simulation.on_meta(args, keep=facts.name != "aten.lift_fresh.default")
            kwargs = {name: simulation.on_meta(value) for name, value in kwargs.items()}
            originals, found = found.tensors, _Found()
            found.note_all(args, self.specs)
            found.note_all(tuple(kwargs.values()), self.specs)
            for original, twin in zip(originals, found.tensors, strict=True):
                self.storages.stand_in(twin, original)
        to_host = simulation is not None and facts.name == _COPY and kwargs.get("device") == CPU
        if simulation is not None and to_host and self._is_there_already(args[0], kwargs):
            return simulation.on_cpu(args[0])
        storages = self.storages
        node = current_autograd_node() if self.phase is Phase.BACKWARD else None
        by_engine = node is not None and not self._is_in_hook
        if func is SUM and by_engine and is_last_reference(args, kwargs, node):
            func = SUM_IN_PLACE
            facts = facts_of(func)
        elif by_engine and func in SELECTIONS and is_of_selection(func, args, node):
            func = SELECTIONS[func]
            facts = facts_of(func)
        elif node is not None and func in WRITTEN_OVER and is_written_over(args, node):
            func = WRITTEN_OVER[func]
            facts = facts_of(func)
        if facts.name == _CLONE and node_variable(node) is not None and is_coordinates(args[0]):
            return sparse_alias(args[0])  # the engine clones because the recorder holds it as well
        stack = self.stack
        call = stack[-1].index if stack else -1 if node is None else self._call_of_node(node)
        if facts.name == _READ and self.on_read is not None:
            self.on_read(args[0], call)
        if simulation is not None and facts.base in INDEXING:
            simulation.note_index(args[1], storages.live)
        reads = [storages.index_of(tensor, call) for tensor in found.tensors + found.parts]
        layouts = [layout_of(t) for t in found.tensors] if facts.reads_layouts else ()
        first_op = len(self._ops)
        kernel, workspace = None, 0
        inspected = found.irregular
        if (facts.makes_sparse or facts.makes_nested) and inspected is None and found.tensors:
            inspected = found.tensors[0]
        if inspected is not None and simulation is None:
            kernel = irregular_kernel(func, args, inspected)
        workspace = 0
        try:
            if kernel is not None:
                output = self._run_irregular(func, facts, kernel, args, kwargs)
            elif self._measures and is_opaque(facts.name, found.tensors):
                output, workspace = run_measured(
                    lambda: func(*args, **kwargs), unseen=frees_unseen(facts.name)
                )
            elif simulation is None:
                output = func(*args, **kwargs)
            else:
                check_operand_dtypes(facts.name, args)
                output = simulation.run(func, facts, args, kwargs, found.tensors)
        except Exception as error:
            if (
                simulation is not None
                and isinstance(error, NotImplementedError)
                and (found.irregular is not None or facts.makes_sparse)
            ):
                refuse(nested=False)
            if node is not None and call >= 0 and self.failed_call is None:
                self.failed_call = self.calls[call]  # in the backward no module is running
            raise
        if not self._keep_ops or facts.is_marker:
            return output
        if found.irregular is not None and kernel is not None:
            inner = ((other.name, arguments) for other, arguments, *_ in self._ops[first_op:])
            if is_recorded_inside(facts.name, inner, nested=found.irregular.is_nested):
                self.pads_nested |= facts.name == _MATMUL and found.irregular.is_nested
                return output
            noted_kwargs += meetings(facts.name, args)
        if by_engine and not stack and self._is_cpu and takes_kept_number(facts.name, args, node):
            noted_kwargs.append((KEPT, True))
        if facts.is_fourier:
            noted_kwargs += fourier_scratch(facts.base, args)
        if facts.resizes:
            for tensor in found.tensors:
                storages.note_size(tensor, call)
        outputs: list[Any] = []
        writes: list[int] = []
        self._note_outputs(output, outputs, writes, call)
        if workspace:
            storages.note_workspace(workspace, call)
        if to_host and not self._is_cpu:
            for index in writes:
                storages.set_host(index)
        recompute = node is not None and bool(stack)
        self._ops.append(
            (
                facts,
                noted,
                noted_kwargs,
                outputs,
                call,
                self.phase,
                recompute,
                reads,
                writes,
                layouts,
            )
        )
        storages.op += 1
        if self._is_cpu and keeps_number(facts.name, args):
            self._product = (weakref.ref(output), call)
        if simulation is None:
            storages.check_limit()
        return output

    def _run_irregular(
        self,
        func: Any,
        facts: OpFacts,
        kernel: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
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

    def _run_inside(
        self, func: Any, facts: OpFacts, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
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

    def _composite(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Any,
        first_op: int,
    ) -> CompositeCall:
        found, outputs = _Found(), tensors_in(output)
        return CompositeCall(
            name=name,
            args=found.note_all(args, self.specs),
            kwargs=tuple((key, found.note(value, self.specs)) for key, value in kwargs.items()),
            outputs=tuple(self.specs.of(tensor) for tensor in outputs),
            call=self.stack[-1].index if self.stack else -1,
            first_op=first_op,
            end_op=len(self._ops),
        )

    def _is_there_already(self, tensor: torch.Tensor, kwargs: Mapping[str, Any]) -> bool:
        """Return whether ``.cpu()`` returns its own tensor."""
        return self._is_cpu and kwargs.get("dtype") in (None, tensor.dtype)

    def _note_outputs(self, value: Any, specs: list[Any], writes: list[int], call: int) -> None:
        if isinstance(value, torch.Tensor):
            if is_irregular(value):
                specs.append(self.specs.of(value))
                writes += [self.storages.index_of(part, call) for part in dense_parts(value)]
            else:
                specs.append(self.specs.of_dense(value))
                writes.append(self.storages.index_of(value, call))
        elif isinstance(value, (list, tuple)):
            for item in value:
                self._note_outputs(item, specs, writes, call)

    # ------------------------------------------------------------------ results

    def op_name(self, index: int) -> str:
        """Return the name of a recorded op."""
        facts: OpFacts = self._ops[index][0] if index < len(self._ops) else facts_of(None)
        return facts.name

    def op_records(self) -> tuple[OpRecord, ...]:
        """Return the ops in order."""
        return tuple(
            OpRecord(
                index=index,
                name=facts.name,
                args=tuple(args),
                kwargs=tuple(kwargs),
                outputs=tuple(outputs),
                call=call,
                phase=phase,
                recompute=recompute,
                reads=tuple(reads),
                writes=tuple(writes),
                is_view=facts.may_be_view and set(writes).issubset(reads),
                layouts=tuple(layouts),
            )
            for index, (
                facts, args, kwargs, outputs, call, phase, recompute, reads, writes, layouts,
            ) in enumerate(self._ops)
        )  # fmt: skip

    def call_records(self) -> tuple[ModuleCall, ...]:
        """Return the module calls in order of entry."""
        return tuple(
            ModuleCall(
                index=call.index,
                path=call.path,
                parent=call.parent,
                inputs=call.inputs,
                outputs=call.outputs,
                first_op=call.first_op,
                end_op=call.end_op,
                first_event=call.first_event,
                end_event=call.end_event,
                output_storages=call.output_storages,
                phase=call.phase,
                completed=call.completed,
                python_calls=call.python_calls,
            )
            for call in self.calls
        )
