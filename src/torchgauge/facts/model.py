"""The central types: a ``Trace`` is what ran, a ``Report`` is what it costs.

A trace holds facts in the order in which they happened and is the only thing that estimators
read. All types are frozen and hold no tensor and no module: tensors are ``TensorSpec``, modules
are dotted paths (the root's path is ``""``), storages are integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Flag, StrEnum, auto
from os import PathLike
from typing import TypeAlias

from torchgauge.facts.quick import made_quickly
from torchgauge.facts.scenario import Scenario

SCHEMA_VERSION = 1
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
class TensorSpec:
    """A tensor without its data. ``dtype`` is a torch name without prefix (``"float32"``)."""

    shape: tuple[int, ...]
    dtype: str
    device: str
    nbytes: int
    """Bytes of the elements of this view (numel × element size), not of the storage behind it."""
    stored: int | None = field(default=None, compare=False)
    """Elements that a sparse tensor holds; ``None`` for all others. ``shape`` is the logical one,
    that of a nested tensor its values' (rows of all lengths one after the other)."""

    @property
    def numel(self) -> int:
        """Return the number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


class Layout(Flag):
    """The order of a tensor's elements in memory, by what kernels ask about it.

    A tensor with one channel or of one pixel is contiguous in both orders.
    """

    NONE = 0
    CONTIGUOUS = auto()
    CHANNELS_LAST = auto()
    """``is_contiguous(memory_format=torch.channels_last)``, of volumes likewise."""
    SUGGESTS_CHANNELS_LAST = auto()
    """Results are made with their channels last (``suggest_memory_format``)."""
    MATRIX = auto()
    """BLAS takes its matrices as they are: rows or columns lie one after the other."""
    CONJUGATED = auto()
    """Its numbers are the conjugates of what is in memory."""
    TRANSPOSED = auto()
    """Matrices whose columns lie one after the other, without gaps."""
    HEADS_INSIDE = auto()
    """``[N, heads, positions, size]`` as it comes from ``[N, positions, heads, size]``."""


ArgumentValue: TypeAlias = (
    "TensorSpec | bool | int | float | complex | str | tuple[ArgumentValue, ...] | None"
)
"""An operator's argument: tensors as specs, dtypes and layouts as text, lists as tuples."""


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class NamedValue:
    """One leaf of a module's inputs or outputs.

    ``name`` is the path to the leaf: the parameter's name or position, then keys, fields or
    indices (``"past_key_values.0.1"``). A leaf that is no tensor has ``tensor=None`` and its
    short text in ``text`` (``"None"``, ``"3"``, ``"'same'"``, ``"<Config>"``).
    """

    name: str
    tensor: TensorSpec | None = None
    text: str = ""
    batch_dims: tuple[tuple[int, int], ...] = ()
    """``(dimension, factor)``: a dimension that is ``factor`` × the batch size."""


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
    """Lies in main memory, beside the device that the step runs on."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
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


# ---------------------------------------------------------------------------- report


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over the whole model. Shared parameters count once; 1 MAC = 2 FLOPs.

    FLOP figures hold matmul-like work (convolutions, matrix products, attention, RNN cells);
    element-wise and normalisation work is in ``elementwise_flops`` alone.
    """

    params: int
    trainable_params: int
    non_trainable_params: int
    param_bytes: int
    buffers: int
    buffer_bytes: int
    forward_macs: int
    forward_flops: int
    backward_flops: int
    optimizer_flops: int
    """Matmul-like FLOPs of the optimizer step (zero for all but second-order ones)."""
    elementwise_flops: int
    """Forward element-wise, reduction, normalisation and pooling work."""

    @property
    def total_flops(self) -> int:
        """Return forward + backward + optimizer FLOPs, element-wise work not included."""
        return self.forward_flops + self.backward_flops + self.optimizer_flops


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePoint:
    """Live bytes after one op in which they changed."""

    op: int
    phase: Phase
    live_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AliveTensor:
    """A block of memory that is alive at the peak."""

    nbytes: int
    role: Role
    label: str
    """Name of the parameter or input, else the operator that made it."""
    module: str
    """Path of the module that made or owns it, ``""`` for the root and outside of all."""
    shape: tuple[int, ...] | None
    dtype: str
    """Of the first tensor in it; ``None`` and ``""`` where that is not known."""
    code: str
    """``file.py:12``: the line of the model's code that made it; ``""`` where none did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes of tensors over one step, from storage lifetimes; no allocator rounding, no context."""

    input_bytes: int
    parameter_bytes: int
    buffer_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    saved_activation_bytes: int
    output_bytes: int
    peak_allocated_bytes: int
    peak_phase: Phase
    peak_module: str
    peak_op: str
    at_peak: Mapping[Role, int]
    """Live bytes per role at the moment of the peak; they sum to ``peak_allocated_bytes``."""
    timeline: tuple[TimelinePoint, ...] = ()
    alive_at_peak: tuple[AliveTensor, ...] = ()
    """The largest blocks alive at the peak, the largest first."""
    peak_reserved_bytes: int | None = None
    """What the caching allocator holds at most; this and what follows: only for a GPU."""
    context_bytes: int | None = None
    """The CUDA context: driver state and loaded kernels, outside of the allocator."""
    device_bytes: int | None = None
    """What the device shows as used: reserved + context."""
    minimum_bytes: int | None = None
    """The smallest limit of the caching allocator under which the step still runs."""
    capacity_bytes: int | None = None
    """Memory of the device that the driver reports."""
    fits: bool | None = None
    """Whether the step runs on the device; ``None`` where no device has been named."""
    intervals: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By figure: the least and the most bytes, where the truth is not determined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The spread of repeated measurements around their median, in milliseconds.

    ``low_ms`` to ``high_ms`` holds the true median with the measurement's confidence; it is read
    off the sorted samples and assumes no distribution.
    """

    low_ms: float
    high_ms: float
    fastest_ms: float
    slowest_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTime:
    """All runs of one operator in one phase, by the kernel that did the work."""

    name: str
    """As recorded, without the overload: ``"aten.convolution"``."""
    kernel: str
    """What it spent its time in: a GPU kernel, or the operator that the CPU ended up in."""
    phase: Phase
    calls: int
    time_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """How the times of a real run were taken."""

    device: str
    """What it ran on, for people: ``"cpu, 8 threads"``, the name of a GPU."""
    repetitions: int
    warm_up: int
    """Steps that ran before, not counted."""
    confidence: float
    """Probability that an interval holds the true median."""
    intervals: Mapping[str, Interval]
    """By ``"total"`` and the phases that ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """All runs of one operator of one module in a phase, and what they would take at the roof."""

    op: str
    """As recorded, without the overload: ``"aten.convolution"``."""
    module: str
    """Path of the module that it serves, ``""`` for the root and outside of all."""
    phase: Phase
    calls: int
    time_ms: float
    """With the time that the GPU waits for it."""
    roof_ms: float
    """At the datasheet's peak rate or bandwidth, whichever takes longer, and without waiting."""
    bound_by: str
    """``"compute"``, ``"memory"`` or ``"launch"``: what most of its time goes to."""

    @property
    def gain_ms(self) -> float:
        """Return what a step would gain if it ran at the roof, at most."""
        return max(0.0, self.time_ms - self.roof_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePrediction:
    """How predicted times were made, and what they say of the device."""

    device: str
    """The GPU's name, as ``torchgauge devices`` lists it; of a CPU its threads and torch too."""
    error: float
    """Relative error that four of five published measurements stay within: ±0.2 is ±20 %. On a CPU
    four of five steps of networks like those that were timed when it was calibrated, and more with
    the share of operators that are known less well."""
    bound_by: Mapping[str, float]
    """Shares of the step that ``"compute"``, ``"memory"`` and ``"launch"`` decide: 1 in all."""
    samples_per_second: float | None = None
    """``None`` where the batch size is not known."""
    flops_share: float | None = None
    """Matmul-like FLOPs of the step, as a share of what the device's peak rate of the scenario's
    precision would do in that time (MFU); ``None`` where that rate is not known."""
    most_joules: float | None = None
    """Energy of the step at the board's power limit: it takes no more. ``None`` where the limit is
    not known."""
    bottlenecks: tuple[Bottleneck, ...] = ()
    """The ten that would gain most at the roof, the largest gain first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Milliseconds of one step. Measured figures are each a median of all repetitions."""

    forward_ms: float
    loss_ms: float = 0.0
    backward_ms: float = 0.0
    optimizer_ms: float = 0.0
    total_ms: float
    outside_ms: float = 0.0
    """Spent outside of every module: the loss, the optimizer, what autograd does by itself.
    With the time that each module takes by itself it sums to ``total_ms``."""
    between_ops_ms: float = 0.0
    """Spent outside of every operator: Python and dispatch. With ``ops`` it sums to the total."""
    ops: tuple[OpTime, ...] = ()
    """The slowest first."""
    measured: Measurement | None = None
    """``None`` when the times were not measured."""
    predicted: TimePrediction | None = None
    """``None`` when the times were not predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMemory:
    """What a real run occupied in one phase."""

    phase: Phase
    allocated_bytes: int
    """Most bytes of tensors at any moment, as the allocator counts them."""
    reserved_bytes: int | None = None
    """Most bytes that the caching allocator held; ``None`` without one (CPU)."""
    device_bytes: int | None = None
    """Used on the device by everybody when the phase ended; ``None`` on the CPU."""
    resident_bytes: int | None = None
    """Of the process in main memory when the phase ended; ``None`` where it is not known."""


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class CallCost:
    """One call of a module with its costs; sub-modules are included."""

    inputs: tuple[NamedValue, ...]
    outputs: tuple[NamedValue, ...]
    forward_macs: int
    backward_flops: int
    elementwise_flops: int
    output_bytes: int
    """Bytes of the call's outputs that it allocated itself: 0 for views and in-place results."""
    saved_activation_bytes: int
    """Allocated inside the call's forward and alive when the backward starts; 0 in inference."""
    peak_allocated_bytes: int
    """Most bytes alive on the whole device at any moment of the call's forward."""
    parent: str | None = None
    """Path of the module whose forward made this call; ``None`` for the root."""
    recompute: bool = False
    completed: bool = True
    time_ms: float | None = None
    """Forward and backward time of the call; ``None`` if neither measured nor predicted."""
    backward_time_ms: float | None = None
    """The part of ``time_ms`` that was spent in the backward."""


@made_quickly
@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleReport:
    """One module with everything that its subtree costs."""

    path: str
    type: str
    depth: int
    params: int
    """Parameters of the subtree, each once, those already counted elsewhere included."""
    trainable_params: int
    param_bytes: int
    own_params: int
    """Parameters owned directly and first met here: these sum to the model's total."""
    own_parameters: tuple[ParameterInfo, ...] = ()
    own_gradient_bytes: int = 0
    """Gradients of the parameters owned directly: these sum to the model's gradients."""
    buffers: int = 0
    buffer_bytes: int = 0
    shared_with: str | None = None
    has_forward: bool = True
    """``False`` for containers that are never called (``ModuleList``, ``ParameterList``)."""
    calls: tuple[CallCost, ...] = ()

    @property
    def macs(self) -> int:
        """Return forward MACs over all calls."""
        return sum(call.forward_macs for call in self.calls if not call.recompute)

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCounted:
    """Ops for which no FLOP formula is known, work outside torch, or modules that never ran."""

    op: str
    calls: int
    why: str


class ModuleTable(Mapping[str, ModuleReport]):
    """Modules by path, in registration order: ``report.modules["layer1.0.conv1"]``."""

    __slots__ = ("_by_path",)

    def __init__(self, modules: tuple[ModuleReport, ...]) -> None:
        self._by_path = {module.path: module for module in modules}

    def __getitem__(self, path: str) -> ModuleReport:
        return self._by_path[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_path)

    def __len__(self) -> int:
        return len(self._by_path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModuleTable) and self._by_path == other._by_path

    def __hash__(self) -> int:
        return hash(tuple(self._by_path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The answer: scenario, module tree, totals, estimates, and what was not counted."""

    tool_version: str
    torch_version: str
    execution: Execution
    model_name: str
    model_spec: str | None
    scenario: Scenario
    inputs: tuple[NamedValue, ...]
    outputs: tuple[NamedValue, ...]
    totals: Totals
    memory: MemoryEstimate | None
    """``None`` when nothing ran (structure only)."""
    modules: ModuleTable
    batch_size: int | None = None
    not_counted: tuple[NotCounted, ...] = ()
    assumptions: tuple[str, ...] = ()
    """How the figures are made; those of the class ``Guess`` are not known to be so."""
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    time: StepTime | None = None
    """Measured, or predicted for a GPU; ``None`` when neither."""
    phase_memory: tuple[PhaseMemory, ...] = ()
    """Of a measured step, phase by phase."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write the report to a JSON file, which ``torchgauge.load`` reads.

        Raises:
            OSError: the file cannot be written.
        """
        from torchgauge.facts.io import save_report  # which imports this module

        save_report(self, path)

    def __reduce__(self) -> tuple[Callable[[str], Report], tuple[str]]:
        """Pickle the report as the JSON that ``save`` writes.

        It then holds nothing but text, which loads where torch is not installed, and a later
        version reads it as it reads the file. Pickled fields would be told apart by their order.
        """
        from torchgauge.facts.io import report_from_json, report_to_json

        return report_from_json, (report_to_json(self, indent=None),)

    def __str__(self) -> str:
        return _text_view(self) if _text_view else f"<Report of {self.model_name}>"


_text_view: Callable[[Report], str] | None = None


def set_text_view(view: Callable[[Report], str]) -> None:
    """Set what ``str(report)`` returns; the public API puts the text renderer here.

    A hook, because ``report`` stands below ``render`` and imports nothing from it.
    """
    global _text_view
    _text_view = view
