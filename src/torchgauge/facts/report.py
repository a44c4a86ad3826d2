"""A ``Report`` is the answer of an analysis: what a trace costs, as a whole and by module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike

from torchgauge.facts.memory import MemoryEstimate, PhaseMemory
from torchgauge.facts.quick import made_quickly
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.time import StepTime
from torchgauge.facts.trace import Execution, Failure, NamedValue, NotCounted, ParameterInfo
from torchgauge.units import format_bytes, format_count, format_integer, format_milliseconds

SCHEMA_VERSION = 1


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
        """Return the main figures in one line; ``torchgauge.show`` prints the whole report."""
        parts = [f"{format_integer(self.totals.params)} parameters"]
        if self.memory is not None:
            parts.append(f"{format_count(self.totals.forward_macs, 'MACs')} forward")
            parts.append(f"peak {format_bytes(self.memory.peak_allocated_bytes)}")
        if self.time is not None:
            parts.append(f"{format_milliseconds(self.time.total_ms)} a step")
        if self.not_counted:
            parts.append(f"{len(self.not_counted)} not counted")
        if self.failure is not None:
            parts.append(f"failed at {self.failure.path or 'the model itself'}")
        about = f"{self.model_name}, {self.scenario.mode} on {self.scenario.device}"
        return f"{about}: {', '.join(parts)} (torchgauge.show prints the table)"
