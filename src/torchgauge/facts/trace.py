"""A ``Trace`` is what ran: facts in the order in which they happened, which estimators read.

All types are frozen and hold no tensor and no module: tensors are ``TensorSpec``, modules are
dotted paths (the root's path is ``""``), storages are integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from os import PathLike
from typing import Any, ClassVar

from torchgauge.facts.codec.damage import Damage
from torchgauge.facts.codec.files import write_atomically
from torchgauge.facts.codec.packed import pack, unpack
from torchgauge.facts.codec.quick import made_quickly
from torchgauge.facts.codec.shape import Shape
from torchgauge.facts.codec.sound import check_trace
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.tensors import (
    ArgumentValue,
    Layout,
    NamedValue,
    TensorSpec,
    read_arguments,
    read_named_arguments,
)
from torchgauge.shown import Shown
from torchgauge.units import format_number_of

__all__ = [
    "OUTSIDE", "TRACE_HEADER", "ArgumentValue", "Execution", "Failure", "Layout", "ModuleCall",
    "ModuleInfo", "NamedValue", "NotCounted", "OpRecord", "ParameterInfo", "Phase", "Role",
    "StorageEvent", "StorageRecord", "TensorSpec", "Trace",
]  # fmt: skip
TRACE_HEADER = b"torchgauge trace 1\n"
"""How a file with a trace begins: the number is the version of what follows."""
OUTSIDE = "outside torch"
"""How the name of an entry of ``not_counted`` begins that no operator stands for."""


class Phase(StrEnum):
    """The part of a step in which something happened."""

    FORWARD = "forward"
    LOSS = "loss"
    BACKWARD = "backward"
    """Includes what a checkpointed block recomputes (``OpRecord.recompute``)."""
    OPTIMIZER = "optimizer"


class Role(StrEnum):
    """What a storage is for."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    GRADIENT = "gradient"
    OPTIMIZER_STATE = "optimizer_state"
    INPUT = "input"
    SAVED_ACTIVATION = "saved_activation"
    """Made in the forward or the loss and still alive when the backward starts."""
    OUTPUT = "output"
    """Returned by the model, in inference."""
    TEMPORARY = "temporary"
    WORKSPACE = "workspace"
    """Scratch memory inside one kernel, from a rule (not seen by the recorder)."""
    ROUNDING = "rounding"
    """What the CUDA caching allocator adds to the blocks that tensors ask for."""


class Execution(StrEnum):
    """How the recorded run was made."""

    SIMULATED = "simulated"
    REAL = "real"


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterInfo:
    """One registered name of a parameter or buffer.

    Names that share one tensor (tied weights, a module registered twice) each have an entry;
    ``shared_with`` is the first such name, ``None`` for the first itself. Only entries with
    ``shared_with is None`` count.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    numel: int
    """Logical elements: what the layer represents, also when packed (4-bit, quantized)."""
    stored_bytes: int
    trainable: bool
    is_buffer: bool = False
    shared_with: str | None = None
    is_lazy: bool = False
    """Uninitialized when the model came in; shape and numel are those after the forward ran."""


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleInfo:
    """One module by its first path; depth 0 is the root."""

    path: str
    type: str
    depth: int
    parameters: tuple[ParameterInfo, ...] = ()
    """Directly owned parameters and buffers, without those of children."""
    shared_with: str | None = None
    """The first path of the same module object when it is registered more than once."""
    has_forward: bool = True
    """``False`` for containers that are never called (``ModuleList``, ``ParameterList``)."""


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCall:
    """One execution of one module's forward."""

    index: int
    path: str
    parent: int
    """Index of the enclosing call, -1 for the root's."""
    inputs: tuple[NamedValue, ...]
    outputs: tuple[NamedValue, ...]
    first_op: int
    """Ops ``first_op <= i < end_op`` ran inside, those of children included."""
    end_op: int
    first_event: int
    """Storage events ``first_event <= i < end_event`` happened inside."""
    end_event: int
    phase: Phase = Phase.FORWARD
    """``BACKWARD`` for a call that recomputes a checkpointed block."""
    output_storages: tuple[int, ...] = ()
    """Distinct storages of the output tensors."""
    completed: bool = True
    """``False`` when the forward raised."""
    python_calls: int = 0
    """Calls of Python functions in this forward, sub-modules and PyTorch's own aside."""


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class OpRecord:
    """One operator as it reached the backend (below autograd, autocast and composite ops)."""

    index: int
    name: str
    """Qualified overload: ``"aten.convolution.default"``."""
    args: tuple[ArgumentValue, ...]
    kwargs: tuple[tuple[str, ArgumentValue], ...]
    outputs: tuple[TensorSpec, ...]
    """All tensors returned, flattened; undefined ones are left out."""
    call: int
    """Index of the innermost module call that this op serves (for a backward op: the call
    whose forward it differentiates), -1 when outside every module."""
    phase: Phase
    recompute: bool = False
    reads: tuple[int, ...] = ()
    """Storages of the tensor arguments, in order of appearance."""
    writes: tuple[int, ...] = ()
    """Storages of the outputs, in the order of ``outputs``."""
    is_view: bool = False
    """No data moved: every output shares the storage of an argument and nothing was written."""
    layouts: tuple[Layout, ...] = ()
    """Of the tensor arguments, in order, where the kernel's scratch memory depends on them."""

    json: ClassVar = Shape(
        types={"args": Any, "kwargs": Any},
        read={"args": read_arguments, "kwargs": read_named_arguments},
    )


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class StorageRecord:
    """One block of memory that tensors share."""

    index: int
    nbytes: int
    role: Role
    label: str
    """Parameter or input name, else the operator that made it."""
    op: int
    """Index of the op that allocated it, -1 for what existed before the step."""
    call: int
    """Innermost module call at that moment, -1 outside."""
    is_host: bool = False
    """Lies in host memory although the step runs on a GPU."""
    code: str = ""
    """``file.py:12``: the line of the model's code that made it; for larger storages alone."""


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class StorageEvent:
    """A storage appears or disappears."""

    storage: int
    is_free: bool
    op: int
    """Ops with a smaller index had finished; an allocation happens inside op ``op``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Where and how the model failed."""

    path: str
    """Innermost module that was running, ``""`` for the root."""
    module_type: str
    inputs: tuple[NamedValue, ...]
    error_type: str
    error: str
    phase: Phase
    hint: str = ""
    requested_bytes: int | None = None
    """How much an allocation that failed had asked for; ``None`` for any other failure."""
    free_bytes: int | None = None
    """How much the device had left at that moment; ``None`` where nobody can say."""

    json: ClassVar = Shape(left_out=("requested_bytes", "free_bytes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCounted:
    """Ops for which no FLOP formula is known, work outside torch, or modules that never ran."""

    op: str
    calls: int
    why: str


def _assumptions(value: Any) -> tuple[str, ...]:
    """Return assumptions, some of which are guesses.

    Raises:
        Damage: they are something else.
    """
    if not isinstance(value, (list, tuple)):
        raise Damage("", "is not a list")
    for index, text in enumerate(value):
        if not isinstance(text, str):
            raise Damage(f"[{index}]", "is not a string")
    return tuple(value)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Trace(Shown):
    """Everything that one execution of a scenario did, in order."""

    torch_version: str
    execution: Execution
    model_name: str
    scenario: Scenario
    modules: tuple[ModuleInfo, ...]
    """In registration order, the root first; each path once, shared ones too."""
    calls: tuple[ModuleCall, ...] = ()
    """In order of entry."""
    ops: tuple[OpRecord, ...] = ()
    storages: tuple[StorageRecord, ...] = ()
    events: tuple[StorageEvent, ...] = ()
    inputs: tuple[NamedValue, ...] = ()
    outputs: tuple[NamedValue, ...] = ()
    phase_ends: tuple[tuple[Phase, int], ...] = ()
    """``(phase, number of events when it ended)`` in order."""
    batch_size: int | None = None
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    not_counted: tuple[NotCounted, ...] = ()
    """What happened without an operator that stands for it."""
    model_spec: str | None = None
    kernels: str = ""
    """Whose kernels ran: ``"cpu"``, or a family of GPUs (``devices.family``)."""
    threads: int = 0
    """Threads of the CPU's kernels where it was recorded; 0 where that is not known."""
    has_early_onednn: bool = False
    """Whether an LSTM of oneDNN ran there that keeps as much as up to version 3.7."""

    json: ClassVar = Shape(types={"assumptions": Any}, read={"assumptions": _assumptions})

    def __str__(self) -> str:
        """Return how much ran, in one line."""
        told = (
            format_number_of(len(self.modules), "module"),
            format_number_of(len(self.ops), "operator call"),
            format_number_of(len(self.storages), "tensor storage"),
        )
        failed = "" if self.failure is None else f", failed in {self.failure.phase}"
        about = f"{self.model_name}, {self.scenario.mode} on {self.scenario.device}"
        return f"{about}: {', '.join(told)}{failed}"

    def save(self, path: str | PathLike[str]) -> None:
        """Write the trace to a file, which ``torchgauge.load`` reads.

        Raises:
            ReportFormatError: it holds what could not be read again.
            OSError: the file cannot be written.
        """
        write_atomically(path, pack(self, TRACE_HEADER, check_trace))

    @classmethod
    def unpacked(cls, data: bytes) -> Trace:
        """Return the trace that ``save`` wrote.

        Raises:
            ReportFormatError: it is damaged, or of another version.
        """
        return unpack(cls, data, TRACE_HEADER, check_trace)
