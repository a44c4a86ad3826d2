"""What has been recorded so far: operators, storages and module calls, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from torchgauge.facts.trace import (
    ArgumentValue,
    ModuleCall,
    NamedValue,
    OpRecord,
    Phase,
    TensorSpec,
)
from torchgauge.trace.inspect.describe import SpecTable, argument
from torchgauge.trace.inspect.irregular import dense_parts, is_irregular
from torchgauge.trace.operators.op_facts import OpFacts, facts_of
from torchgauge.trace.python.threads import Threads
from torchgauge.trace.record.storages import StorageTracker
from torchgauge.trace.shapes.rule import Args
from torchgauge.trace.values.simulation import Simulation

_SCALARS = (int, float, bool, str, type(None))
_TRANSPOSED = facts_of(torch.ops.aten.t.default)


class Operands:
    """The arguments of one operator: their specs, and the tensors among them."""

    __slots__ = ("irregular", "is_foreign", "noted", "noted_kwargs", "parts", "tensors")

    def __init__(self, args: Args, kwargs: Mapping[str, Any], specs: SpecTable) -> None:
        self.tensors: list[torch.Tensor] = []
        self.irregular: torch.Tensor | None = None
        """The last sparse or nested tensor."""
        self.parts: list[torch.Tensor] = []
        """The dense tensors inside the sparse and nested ones."""
        self.is_foreign = False
        """Whether a tensor is not on the meta device."""
        self.noted = self._note_all(args, specs)
        """The arguments as plain data."""
        self.noted_kwargs = [(name, self._note(value, specs)) for name, value in kwargs.items()]

    def _note_all(self, values: Sequence[Any], specs: SpecTable) -> tuple[Any, ...]:
        return tuple([self._note(value, specs) for value in values])

    def _note(self, value: Any, specs: SpecTable) -> Any:
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
            return self._note_all(value, specs)
        return argument(value, specs)


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


@dataclass(slots=True, eq=False)
class OpenCall:
    """A module call while it runs; its fields are those of ``ModuleCall``."""

    index: int
    path: str
    parent: int
    inputs: tuple[NamedValue, ...]
    first_op: int
    first_event: int
    phase: Phase
    outputs: tuple[NamedValue, ...] = ()
    output_storages: tuple[int, ...] = ()
    completed: bool = False
    python_calls: int = 0
    end_op: int = 0
    end_event: int = 0


class GradientSum(NamedTuple):
    """A gradient that is added in place to the one that the engine holds for a leaf."""

    facts: OpFacts
    held: int
    """The storage of the gradient that is held."""
    gradient: torch.Tensor
    spec: TensorSpec
    """What both look like."""
    call: int
    node: int
    """The number of the backward node that returned the gradient."""
    leaf: int
    """The storage of the leaf."""
    source: TensorSpec | None = None
    """What ``gradient`` looks like, where a ``t`` comes between: it runs when the node is done."""


class Recording:
    """The operators, storages and module calls of one run.

    ``simulation`` is ``None`` for a real run. With ``keep_ops=False`` only module calls are kept,
    which is enough to learn shapes.
    """

    def __init__(self, *, device: str, simulation: Simulation | None, keep_ops: bool) -> None:
        super().__init__()
        self.specs = SpecTable(device)
        self.storages = StorageTracker()
        self.simulation = simulation
        self.phase = Phase.FORWARD
        self.threads = Threads(simulated=simulation is not None)
        self.calls: list[OpenCall] = []
        self.failed_call: OpenCall | None = None
        self.composites: list[CompositeCall] | None = None
        """Where to note calls of composite operators, which only inference mode shows whole."""
        self._ops: list[tuple[Any, ...]] = []
        self._sums: list[GradientSum] = []
        """What the engine would have summed by now, noted before anything else is."""
        self._keep_ops = keep_ops
        self._is_cpu = device == "cpu"

    @property
    def stack(self) -> list[OpenCall]:
        """Return the module calls that are open in this thread."""
        return self.threads.local.stack

    def place(self) -> str:
        """Return the path of the module that runs, ``""`` for the model and outside of it."""
        return self.stack[-1].path if self.stack else ""

    def _note_op(
        self,
        facts: OpFacts,
        operands: Operands,
        output: Any,
        call: int,
        reads: list[int],
        layouts: Sequence[Any],
        *,
        workspace: int,
        recompute: bool,
    ) -> list[int]:
        """Note an operator that has run; return the storages of its outputs."""
        for tensor in operands.tensors if facts.resizes else ():
            self.storages.note_size(tensor, call)
        outputs: list[Any] = []
        writes: list[int] = []
        self._note_outputs(output, outputs, writes, call)
        if workspace:
            self.storages.note_workspace(workspace, call)
        self._ops.append((facts, operands.noted, operands.noted_kwargs, outputs, call, self.phase,
                          recompute, reads, writes, layouts))  # fmt: skip
        self.storages.op += 1
        if self.simulation is None:
            self.storages.check_limit()
        return writes

    def note_sums(self, last: torch.Tensor | None = None, *, are_all: bool = True) -> None:
        """Note the sums of gradients that were left to be noted, and let go of what they added.

        The engine adds when a node is done and has let go of what it kept. All that a node returned
        is let go of in order: with a ``last`` gradient, before that one. Unless ``are_all`` wait
        no longer, those of gradients that go through a ``t`` still do.
        """
        waiting, self._sums = self._sums, []
        later = waiting[-1:] if waiting and waiting[-1].source is not None else []
        if later:  # one at most: the node that returned it is noted before the next one runs
            waiting.pop()
        gradients = list(map(self._note_sum, waiting))
        waiting.clear()
        if gradients or not later:
            self.storages.let_go(gradients, before=last)
        if not are_all:
            self._sums = later
        elif later:
            self.storages.let_go([self._note_sum(later.pop())])

    def _note_sum(self, added: GradientSum) -> torch.Tensor:
        """Note one sum; return what was added."""
        facts, held, gradient, spec, call, _, _, source = added
        place = self.storages.index_of(gradient, call)
        if source is not None:
            self._ops.append(
                (_TRANSPOSED, (source,), (), (spec,), call, Phase.BACKWARD, False, (place,),
                 (place,), ())
            )  # fmt: skip
            self.storages.op += 1
        reads = (held, place)
        self._ops.append(
            (facts, (spec, spec), (), (spec,), call, Phase.BACKWARD, False, reads, (held,), ())
        )
        self.storages.op += 1
        return gradient

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

    def op_name(self, index: int) -> str:
        """Return the name of a recorded op."""
        facts: OpFacts = self._ops[index][0] if index < len(self._ops) else facts_of(None)
        return facts.name

    def op_records(self) -> tuple[OpRecord, ...]:
        """Return the ops in order."""
        return tuple([
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
                is_view=facts.may_be_view and (reads == writes or set(writes).issubset(reads)),
                layouts=tuple(layouts),
            )
            for index, (
                facts, args, kwargs, outputs, call, phase, recompute, reads, writes, layouts,
            ) in enumerate(self._ops)
        ])  # fmt: skip

    def call_records(self) -> tuple[ModuleCall, ...]:
        """Return the module calls in order of entry."""
        return tuple([
            ModuleCall(
                index=call.index,
                path=call.path,
                parent=call.parent,
                inputs=call.inputs,
                first_op=call.first_op,
                first_event=call.first_event,
                phase=call.phase,
                outputs=call.outputs,
                output_storages=call.output_storages,
                completed=call.completed,
                python_calls=call.python_calls,
                end_op=call.end_op,
                end_event=call.end_event,
            )
            for call in self.calls
        ])  # fmt: skip
