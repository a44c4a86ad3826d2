"""One analysed run as the compatible front ends read it: calls in order, beside live modules.

A ``Report`` holds no module and no order across modules. The tools that are stood in for show
both: rows in the order of execution, objects that users read attributes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from torchgauge.analyze import Run, as_module, model_error, run_model
from torchgauge.errors import ModelError
from torchgauge.estimate.compute.modules import Compute, estimate_compute, totals
from torchgauge.estimate.memory.lifetimes import live_bytes, peak_bytes
from torchgauge.estimate.memory.workspaces import workspaces_for
from torchgauge.facts.report import Report, Totals
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import ModuleCall, OpRecord, ParameterInfo, Phase, Role, Trace
from torchgauge.reports import report_of
from torchgauge.request import Inputs, Recording, Request
from torchgauge.target import platform_of
from torchgauge.trace.inspect.tree import walk
from torchgauge.trace.inspect.wrappers import unwrap
from torchgauge.trace.record.recording import CompositeCall
from torchgauge.trace.run.batch import name_batch, named_by


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a run holds, in bytes: the part of its memory that the tables show."""

    input_bytes: int
    parameter_bytes: int
    peak_bytes: int


def _bytes_of(trace: Trace, role: Role) -> int:
    return sum([item.nbytes for item in trace.storages if item.role is role and not item.is_host])


@dataclass(frozen=True, kw_only=True)
class ModelRun:
    """A run of a model, or its structure alone when there was no input."""

    run: Run
    model: nn.Module
    """The user's own, without wrappers."""

    @property
    def trace(self) -> Trace:
        """Return what ran."""
        return self.run.outcome.trace

    @property
    def error(self) -> Exception | None:
        """Return the exception that ended the run early."""
        return self.run.outcome.error

    @property
    def is_training(self) -> bool:
        """Return whether a training step ran."""
        return self.trace.scenario.is_training

    @property
    def forward_failed(self) -> bool:
        """Return whether the model itself failed, not the loss or the backward."""
        failure = self.trace.failure
        return self.error is not None and (failure is None or failure.phase is Phase.FORWARD)

    @cached_property
    def report(self) -> Report:
        """Return what the run costs; of a failed run, what is known of it."""
        return report_of(self.trace, self.run.target)

    def make_report(self) -> Report:
        """Return the report, for those who ask for it later."""
        return self.report

    @cached_property
    def memory(self) -> Held | None:
        """Return what the run holds on the CPU, ``None`` when nothing ran."""
        trace = self.trace
        if not trace.calls:
            return None
        live = live_bytes(trace, workspaces_for(platform_of(self.run.target, trace)))
        return Held(
            input_bytes=_bytes_of(trace, Role.INPUT),
            parameter_bytes=_bytes_of(trace, Role.PARAMETER),
            peak_bytes=peak_bytes(trace, live),
        )

    @cached_property
    def totals(self) -> Totals:
        """Return the sums over the model."""
        return totals(self.trace, self.compute)

    @cached_property
    def compute(self) -> Compute:
        """Return FLOPs per call, children included, and in total."""
        return estimate_compute(self.trace)

    @cached_property
    def forward_compute(self) -> Compute:
        """Return the same of the forward and the loss alone."""
        if not self.is_training:
            return self.compute
        ops = self.trace.ops
        end = next((op.index for op in ops if op.phase is Phase.BACKWARD), len(ops))
        return estimate_compute(replace(self.trace, ops=ops[:end]))

    @cached_property
    def modules(self) -> Mapping[str, nn.Module]:
        """Return the user's modules by path, each first path and each repeated one."""
        return {path: module for path, module, _ in walk(self.model)}

    @cached_property
    def types(self) -> Mapping[str, str]:
        """Return class names by path; of lazy modules what they became."""
        return {info.path: info.type for info in self.trace.modules}

    @cached_property
    def calls(self) -> tuple[ModuleCall, ...]:
        """Return the forward's calls in order of entry; recomputed blocks are left out."""
        return tuple(call for call in self.trace.calls if call.phase is Phase.FORWARD)

    @cached_property
    def completed_calls(self) -> tuple[ModuleCall, ...]:
        """Return the forward's calls in the order in which they ended, as forward hooks see it."""
        ended: list[ModuleCall] = []
        open_calls: list[ModuleCall] = []
        for call in self.calls:
            while open_calls and open_calls[-1].index != call.parent:
                ended.append(open_calls.pop())
            open_calls.append(call)
        ended.extend(reversed(open_calls))
        return tuple(call for call in ended if call.completed)

    @cached_property
    def _macs(self) -> tuple[int, ...]:
        return tuple([flops // 2 for flops in self.forward_compute.forward])

    @cached_property
    def _children_macs(self) -> Mapping[int, int]:
        found: dict[int, int] = {}
        for call in self.calls:
            found[call.parent] = found.get(call.parent, 0) + self.macs_of(call)
        return found

    def macs_of(self, call: ModuleCall) -> int:
        """Return the forward MACs of a call, sub-modules included."""
        return self._macs[call.index]

    def own_macs_of(self, call: ModuleCall) -> int:
        """Return the forward MACs that a call computes itself, outside of sub-modules.

        Over all calls, and what ran outside of every module, they sum to the total.
        """
        return self.macs_of(call) - self._children_macs.get(call.index, 0)

    @cached_property
    def own_parameters(self) -> Mapping[str, tuple[ParameterInfo, ...]]:
        """Return the parameters that each module owns directly, tied ones where they repeat."""
        return {
            info.path: tuple(item for item in info.parameters if not item.is_buffer)
            for info in self.trace.modules
        }

    def own_params(self, path: str) -> int:
        """Return the parameters that a module owns and that no module before it has shown."""
        items = self.own_parameters.get(path, ())
        return sum(item.numel for item in items if item.shared_with is None)

    def calls_inside(self, is_outer: Callable[[ModuleCall], bool]) -> dict[int, int]:
        """Return some calls and the calls inside them, each with the outermost one."""
        found: dict[int, int] = {}
        for call in self.trace.calls:
            if call.parent in found:
                found[call.index] = found[call.parent]
            elif is_outer(call):
                found[call.index] = call.index
        return found

    @cached_property
    def forward_ops(self) -> tuple[OpRecord, ...]:
        """Return the operators of the forward."""
        return tuple(op for op in self.trace.ops if op.phase is Phase.FORWARD)

    @property
    def observed(self) -> tuple[tuple[int, Any], ...]:
        """Return ``(index of the call, what the observer returned)``."""
        return self.run.outcome.observed

    @property
    def composites(self) -> tuple[CompositeCall, ...]:
        """Return the calls of composite operators, where they were asked for."""
        return self.run.outcome.composites

    def raise_error(self) -> None:
        """Raise a ``ModelError`` that names the layer, when the model failed."""
        if self.error is not None:
            raise _in_both_ways(model_error(self.run.outcome, self.report), self.error) from (
                self.error
            )


@contextmanager
def _layer_by_layer() -> Iterator[None]:
    """Run attention without PyTorch's fused fast path, which the tools' hooks switch off."""
    was_on = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_on)


@_layer_by_layer()
def run(
    model: nn.Module,
    input_size: Any = None,
    *,
    input_data: Any = None,
    dtypes: Sequence[torch.dtype] | None = None,
    batch_size: int | None = None,
    as_given: bool = True,
    training: bool = False,
    forward_kwargs: Mapping[str, Any] | None = None,
    **recording: Any,
) -> ModelRun:
    """Run a model's forward, simulated, and with ``training`` a backward, without an optimizer.

    A failure of the model is in the result (``error``). Sizes are shapes unless ``as_given`` is
    false or ``batch_size`` is given. ``recording`` has fields of ``Recording``.

    Raises:
        UsageError: when the inputs make no sense.
    """
    model = as_module(model)
    result = run_model(
        Request(
            model=model,
            inputs=Inputs(
                size=input_size,
                data=input_data,
                dtypes=dtypes,
                batch_size=batch_size,
                as_given=as_given and batch_size is None,
                keywords=forward_kwargs or {},
            ),
            scenario=Scenario(mode="training", optimizer="none") if training else Scenario(),
            recording=Recording(**recording),
        )
    )
    return ModelRun(run=result, model=unwrap(model))


@_layer_by_layer()
def batch_named(run: ModelRun, other: ModelRun | None = None) -> ModelRun:
    """Return a run whose values say which dimensions grow with the batch, where it can be told.

    ``other`` is a run of another number of samples in the same mode. Where there is none, or it
    does not say, it costs one more forward, of one sample more.
    """
    request, outcome = run.run.run_plan, run.run.outcome
    if request is None:
        return run
    trace = None if other is None else named_by(run.trace, other.trace)
    if trace is None:
        plan = outcome.plan or request.plan
        request = replace(request, plan=plan, gradients=outcome.gradients)
        request = request.recorded(on_call=None)
        trace = name_batch(request, run.trace)
    return replace(run, run=replace(run.run, outcome=replace(outcome, trace=trace)))


def _in_both_ways(ours: Exception, raised: Exception) -> Exception:
    """Return a ``ModelError`` that is of the built-in class of the model's own error, too.

    Programs catch what the original tool let through: the exception of the model.
    """
    if not isinstance(ours, ModelError):
        return ours
    kind = next(cls for cls in type(raised).__mro__ if cls.__module__ == "builtins")
    if kind in (Exception, BaseException):
        return ours
    try:
        both = type("ModelError", (ModelError, kind), {"__module__": ModelError.__module__})
        error: Exception = both(ours.message, hint=ours.hint, report=ours.report)
    except TypeError:  # a class whose instances are laid out in their own way
        return ours
    return error


def pass_bytes(run: ModelRun) -> int:
    """Return what a run needs beside inputs and parameters at its peak, in bytes.

    Of a training run: activations, what the backward makes and keeps, the gradients that exist at
    that moment, buffers. With the inputs and the parameters it sums to the peak. Rounding of an
    allocator and a GPU's context are not part of it.
    """
    memory = run.memory
    if memory is None:
        return 0
    return memory.peak_bytes - memory.input_bytes - memory.parameter_bytes
