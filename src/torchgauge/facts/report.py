"""A ``Report`` is the answer of an analysis: what a trace costs, as a whole and by module."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torchgauge.errors import ReportFormatError
from torchgauge.facts.answer import SCHEMA_VERSION, Answer, Tool
from torchgauge.facts.codec.damage import Damage
from torchgauge.facts.codec.quick import made_quickly
from torchgauge.facts.codec.shape import Shape
from torchgauge.facts.codec.wire import from_dict
from torchgauge.facts.loop.advice import Suggestion
from torchgauge.facts.memory import MemoryEstimate, PhaseMemory
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.time import StepTime
from torchgauge.facts.trace import (
    Execution,
    Failure,
    NamedValue,
    NotCounted,
    ParameterInfo,
    Trace,
)
from torchgauge.shown import door
from torchgauge.units import format_bytes, format_count, format_integer, format_milliseconds

if TYPE_CHECKING:
    from torchgauge.figures.plot import Plot


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

    json: ClassVar = Shape(
        names=(
            "params", "trainable_params", "non_trainable_params", "param_bytes", "buffers",
            "buffer_bytes", "forward_macs", "forward_flops", "backward_flops", "total_flops",
            "optimizer_flops", "elementwise_flops",
        ),
        derived=("total_flops",),
    )  # fmt: skip

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
    saved_activation_bytes: int
    """Allocated inside the call's forward and alive when the backward starts; 0 in inference."""
    peak_allocated_bytes: int
    """Most bytes alive on the whole device at any moment of the call's forward."""
    elementwise_flops: int
    output_bytes: int
    """Bytes of the call's outputs that it allocated itself: 0 for views and in-place results."""
    parent: str | None = None
    """Path of the module whose forward made this call; ``None`` for the root."""
    recompute: bool = False
    completed: bool = True
    time_ms: float | None = None
    """Forward and backward time of the call; ``None`` if neither measured nor predicted."""
    backward_time_ms: float | None = None
    """The part of ``time_ms`` that was spent in the backward."""

    json: ClassVar = Shape(left_out=("time_ms", "backward_time_ms"))


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
    shared_with: str | None = None
    calls: tuple[CallCost, ...] = ()
    own_params: int
    """Parameters owned directly and first met here: these sum to the model's total."""
    own_gradient_bytes: int = 0
    """Gradients of the parameters owned directly: these sum to the model's gradients."""
    own_parameters: tuple[ParameterInfo, ...] = ()
    buffers: int = 0
    buffer_bytes: int = 0
    has_forward: bool = True
    """``False`` for containers that are never called (``ModuleList``, ``ParameterList``)."""

    json: ClassVar = Shape(later=("own_gradient_bytes",))

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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Report(Answer):
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
    suggestion: Suggestion | None = field(default=None, compare=False)
    """The best change that could be found and measured at once; ``None`` where none was looked for,
    and where none saves enough."""

    trace: Trace | None = field(default=None, compare=False, repr=False)
    """What the report was estimated from; not saved with it, so ``None`` in a loaded one."""

    json: ClassVar = Shape(
        names=(
            "schema_version", "tool", "torch_version", "execution", "model", "scenario", "inputs",
            "outputs", "totals", "memory", "time", "phase_memory", "modules", "not_counted",
            "assumptions", "warnings", "batch_size", "failure", "guesses", "suggestion",
        ),
        sources={"modules": "module_list"},
        left_out=("time", "phase_memory", "guesses", "suggestion"),
    )  # fmt: skip

    @property
    def module_list(self) -> tuple[ModuleReport, ...]:
        """Return the modules in registration order."""
        return tuple(self.modules.values())

    @property
    def plot(self) -> Plot:
        """Return the figures for papers: ``report.plot.memory().savefig("memory.pdf")``."""
        made: Plot = door("figures")(self)
        return made

    def graph(
        self, language: Literal["dot", "mermaid"] = "dot", *, depth: int | None = None
    ) -> str:
        """Return the graph of the model as text: nested modules, and the shapes that flow.

        Equal siblings are one box, as in the terminal's table.

        Args:
            language: ``"dot"`` for Graphviz, ``"mermaid"`` for wikis and code hosts.
            depth: show modules down to this depth; by default all that a reader can take in.

        Raises:
            UsageError: nothing ran, or the report was loaded or measured and has no trace.
        """
        text: str = door("graph")(self, language, depth=depth)
        return text

    def to_dataframe(
        self,
        what: Literal["modules", "operators", "timeline"] = "modules",
        *,
        library: Literal["pandas", "polars"] | None = None,
    ) -> Any:
        """Return a table of the report as a dataframe; units are in the names of its columns.

        Args:
            what: ``"modules"``, one row each; columns that begin with ``own_`` leave sub-modules
                out and sum to the totals. ``"operators"`` of the step, in order.
                ``"timeline"``, the live bytes over the step.
            library: ``"pandas"`` or ``"polars"``; by default what is installed, pandas first.

        Raises:
            UsageError: there is no such table or library, or the report lacks what it needs.
            MissingExtraError: the library is not installed.
        """
        return door("dataframe")(self, what, library)

    @classmethod
    def from_json(
        cls, *, schema_version: Literal[1], tool: Tool, modules: Any = (), **given: Any
    ) -> Report:
        """Return the report from what its JSON holds.

        Raises:
            Damage: there is no root module.
        """
        if not any(module.path == "" for module in modules):
            raise Damage("modules", "has no root (path '')")
        modules = ModuleTable(modules)
        return super(Report, cls).from_json(  # the class that slots made
            schema_version=schema_version, tool=tool, modules=modules, **given
        )

    def view(self, *, height: int = 720) -> None:
        """Open the interactive page: in the cell of a notebook, elsewhere in the browser.

        Args:
            height: of the frame in the cell, in pixels.

        Raises:
            UsageError: for a height below 200.
        """
        door("view")(self, height=height)

    def __copy__(self) -> Report:
        """Return the same report, with its trace."""
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Report:
        """Return a report of which nothing but the trace, which cannot change, is the same."""
        names = (item.name for item in fields(self) if item.name != "trace")
        return replace(self, **{name: deepcopy(getattr(self, name), memo) for name in names})

    def __reduce__(self) -> tuple[Callable[[str], Report], tuple[str]]:
        """Pickle the report as the JSON that ``save`` writes, without its trace.

        It then holds nothing but text, which loads where torch is not installed, and a later
        version reads it as it reads the file. Pickled fields would be told apart by their order.
        """
        return report_from_json, (self.to_json(indent=None),)

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
            place = self.failure.path or self.failure.module_type
            parts.append(f"failed in {self.failure.phase} at {place}")
        about = f"{self.model_name}, {self.scenario.mode} on {self.scenario.device}"
        return f"{about}: {', '.join(parts)} (torchgauge.show prints the table)"


_AGAIN = "save it again, with .save(…) or --format json"


def report_from_dict(data: object) -> Report:
    """Return the report that ``to_dict`` made ``data`` from.

    Raises:
        ReportFormatError: of another schema version, or something is missing or of a wrong type.
    """
    if not isinstance(data, dict) or "schema_version" not in data:
        raise ReportFormatError(
            "this is not a torchgauge report: it has no schema_version", hint=_AGAIN
        )
    check_version(data["schema_version"])
    return from_dict(Report, data)


def check_version(version: object) -> None:
    """Refuse the JSON of another version.

    Raises:
        ReportFormatError: says which it is.
    """
    if version != SCHEMA_VERSION or type(version) is not int:
        raise ReportFormatError(
            f"schema_version {version!r} is not known; this torchgauge reads {SCHEMA_VERSION}",
            hint="use the torchgauge that wrote it, or a newer one",
        )


def report_from_json(text: str) -> Report:
    """Return the report from its JSON text.

    Raises:
        ReportFormatError: the text is not JSON, or not a report that this version can read.
    """
    return report_from_dict(data_of_json(text))


def data_of_json(text: str) -> object:
    """Return what strict JSON holds.

    Raises:
        ReportFormatError: the text is not JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ReportFormatError(f"this is not valid JSON: {error}", hint=_AGAIN) from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
