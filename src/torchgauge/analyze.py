"""Model + inputs + scenario → ``Report``: the trace, then the estimators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import Any

import torch
from torch import nn

from torchgauge.errors import ModelError, TorchGaugeError, UsageError
from torchgauge.facts.pictures.timeline import Timeline
from torchgauge.facts.report import Report
from torchgauge.facts.trace import Trace
from torchgauge.reports import report_of, timeline_of
from torchgauge.request import Request
from torchgauge.target import Target, calibrated, target_of
from torchgauge.trace.copy.meta_copy import whole_model
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.isolate.isolation import collector_paused
from torchgauge.trace.kernels import cpu, cuda
from torchgauge.trace.kernels.base import VirtualDevice
from torchgauge.trace.run.batch import name_batch
from torchgauge.trace.run.result import structure
from torchgauge.trace.run.run_plan import Outcome, RunPlan
from torchgauge.trace.run.runs import run


def analyze_model(
    request: Request, *, batch_names: bool = False, timeline: str | PathLike[str] | None = None
) -> Report:
    """Trace one execution and estimate what it costs; see ``torchgauge.analyze``."""
    with collector_paused():
        run = run_model(request)
        outcome, trace = run.outcome, run.outcome.trace
        if outcome.error is not None:
            trace = described(trace, request, run.target)
            report = replace(report_of(trace, run.target), trace=trace)
            raise model_error(outcome, report) from outcome.error
        if batch_names and run.run_plan is not None:
            plan = outcome.plan or run.run_plan.plan
            again = replace(run.run_plan, plan=plan, gradients=outcome.gradients)
            trace = name_batch(again, trace)
        trace = described(trace, request, run.target)
        target = calibrated(run.target, trace)
        report = replace(report_of(trace, target), trace=trace)
        if timeline is not None:
            save_timeline(timeline_of(trace, target, report.memory), timeline)
        return report


def described(trace: Trace, request: Request, target: Target) -> Trace:
    """Return the trace with whose kernels ran, and what the request says of the model."""
    return replace(
        trace,
        kernels=target.family,
        model_spec=request.spec,
        assumptions=(*request.assumptions, *trace.assumptions),
        warnings=(*request.warnings, *trace.warnings),
    )


def virtual_device_of(target: Target) -> VirtualDevice:
    """Return the kernels of what a scenario runs on."""
    platform = target.platform
    if platform.type == "cpu":
        return cpu.DEVICE
    return cuda.virtual_device(platform.compute_capability, platform.torch_release)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of one execution, and on what it ran."""

    outcome: Outcome
    target: Target
    run_plan: RunPlan | None = None
    """``None`` when nothing ran, for want of an input."""


def run_model(request: Request) -> Run:
    """Trace one execution; a failure of the model is part of what is returned."""
    target = target_of(request.scenario)
    model = as_module(request.model)
    whole, wrapping = whole_model(model)
    name = request.name or type(whole).__name__
    plan = plan_inputs(whole, request.inputs)
    if plan is None:
        trace = structure(whole, request.scenario, name, assumptions=wrapping)
        return Run(outcome=Outcome(trace=trace), target=target)
    asked = RunPlan(
        model=model,
        plan=plan,
        scenario=request.scenario,
        loss=request.loss,
        model_name=name,
        on_progress=request.on_progress,
        target=virtual_device_of(target),
        recording=request.recording,
        simulated_only=not request.real_run,
    )
    return Run(outcome=run(asked), target=target, run_plan=asked)


def as_module(model: Any) -> nn.Module:
    """Return the module to analyse: exported programs give their module.

    Raises:
        UsageError: it is not a module.
    """
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, torch.export.ExportedProgram):
        return model.module()
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise UsageError(
            f"{model.__name__} is a class, not a model", hint=f"create one: {model.__name__}(...)"
        )
    raise UsageError(f"cannot analyze a {type(model).__name__}", hint="pass a torch.nn.Module")


def save_timeline(timeline: Timeline, path: str | PathLike[str]) -> None:
    """Write a timeline.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        timeline.save(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {fspath(path)}: {error.strerror or error}",
            hint="choose another file for the timeline",
        ) from error


def model_error(outcome: Outcome, report: Report) -> Exception:
    """Return what to raise for a failed run; ``report`` is what is known of it."""
    error, failure = outcome.error, outcome.trace.failure
    if isinstance(error, TorchGaugeError):
        return error
    assert error is not None and failure is not None
    place = f"{failure.path} ({failure.module_type})" if failure.path else failure.module_type
    given = ", ".join(
        f"{value.name} {list(value.tensor.shape)} {value.tensor.dtype}"
        if value.tensor is not None
        else f"{value.name} {value.text}"
        for value in failure.inputs
    )
    return ModelError(
        f"{place} failed in {failure.phase}: {failure.error_type}: {failure.error}"
        + (f"\n  it got: {given}" if given else ""),
        hint=failure.hint,
        report=report,
    )
