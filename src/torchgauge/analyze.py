"""Model + inputs + scenario → ``Report``: the trace, then the estimators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import Any

import torch
from torch import nn

from torchgauge.errors import ModelError, ScenarioError, TorchGaugeError, UsageError
from torchgauge.estimate.compute.modules import estimate_compute, module_reports, never_used, totals
from torchgauge.estimate.memory.lifetimes import live_bytes
from torchgauge.estimate.memory.pipeline import estimate_memory, estimate_on_gpu, intervals_on_gpu
from torchgauge.estimate.memory.workspaces import workspaces_for
from torchgauge.estimate.time.cpu.predict import predict_on_cpu
from torchgauge.estimate.time.gpu import Prediction, predict
from torchgauge.estimate.time.gpu.device_model import model_of
from torchgauge.estimate.time.reporting import ReportedTime, reported, with_times
from torchgauge.estimate.time.trace_file import predicted_timeline
from torchgauge.facts.memory import MemoryEstimate
from torchgauge.facts.report import ModuleTable, Report
from torchgauge.facts.timeline import Timeline
from torchgauge.facts.trace import Trace
from torchgauge.request import Inputs, Request
from torchgauge.target import CPU, Target, calibrated, platform_of, target_of
from torchgauge.trace.copy.meta_copy import whole_model
from torchgauge.trace.inputs.plan import InputPlan, plan_inputs
from torchgauge.trace.isolate.isolation import collector_paused
from torchgauge.trace.run.batch import name_batch
from torchgauge.trace.run.result import structure
from torchgauge.trace.run.run_plan import Outcome, RunPlan
from torchgauge.trace.run.runs import run
from torchgauge.version import __version__


def analyze_model(
    request: Request, *, batch_names: bool = False, timeline: str | PathLike[str] | None = None
) -> Report:
    """Trace one execution and estimate what it costs; see ``torchgauge.analyze``."""
    with collector_paused():
        run = run_model(request)
        outcome = run.outcome
        if outcome.error is not None:
            report = completed(report_of(outcome.trace, request.spec, run.target), request)
            raise model_error(outcome, report) from outcome.error
        trace = outcome.trace
        if batch_names and run.request is not None:
            plan = outcome.plan or run.request.plan
            again = replace(run.request, plan=plan, gradients=outcome.gradients)
            trace = name_batch(again, trace)
        target = calibrated(run.target)
        report = report_of(trace, request.spec, target)
        if timeline is not None:
            save_timeline(timeline_of(trace, target, report.memory), timeline)
        return completed(report, request)


def completed(report: Report, request: Request) -> Report:
    """Return the report with what was assumed and warned of before the analysis began."""
    return replace(
        report,
        assumptions=(*request.assumptions, *report.assumptions),
        warnings=(*request.warnings, *report.warnings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of one execution, and on what it ran."""

    outcome: Outcome
    target: Target
    request: RunPlan | None = None
    """``None`` when nothing ran, for want of an input."""


def run_model(request: Request) -> Run:
    """Trace one execution; a failure of the model is part of what is returned."""
    target = target_of(request.scenario)
    model = as_module(request.model)
    whole, wrapping = whole_model(model)
    name = request.name or type(whole).__name__
    plan = plan_of(whole, request.inputs)
    if plan is None:
        trace = structure(whole, request.scenario, name, assumptions=wrapping)
        return Run(outcome=Outcome(trace=trace), target=target)
    recording = request.recording
    asked = RunPlan(
        model=model,
        plan=plan,
        scenario=request.scenario,
        loss=request.loss,
        model_name=name,
        on_progress=request.on_progress,
        target=target.virtual,
        on_call=recording.on_call,
        note_composites=recording.note_composites,
        forward_only=recording.forward_only,
        calls_only=recording.calls_only,
        modules_only_of_failures=recording.modules_only_of_failures,
        simulated_only=not request.real_run,
    )
    return Run(outcome=run(asked), target=target, request=asked)


def plan_of(model: nn.Module, inputs: Inputs) -> InputPlan | None:
    """Return the arguments of the forward, ``None`` when nothing says what goes into it.

    Raises:
        InputError: the inputs make no sense.
    """
    return plan_inputs(
        model,
        inputs.size,
        inputs.data,
        batch_size=inputs.batch_size,
        batch_dim=inputs.batch_dim,
        dtypes=inputs.dtypes,
        forward_kwargs=inputs.keywords,
        as_given=inputs.as_given,
    )


def as_module(model: Any) -> nn.Module:
    """Return the module to analyse: exported programs give their module.

    Raises:
        UsageError: when it is no module.
    """
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, torch.export.ExportedProgram):
        return model.module()
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise UsageError(
            f"{model.__name__} is a class, not a model", hint=f"create one: {model.__name__}(...)"
        )
    raise UsageError(f"cannot analyse a {type(model).__name__}", hint="pass a torch.nn.Module")


def report_of(trace: Trace, model_spec: str | None = None, target: Target | None = None) -> Report:
    """Estimate a trace's costs; a pure function of the trace and what it runs on."""
    target = target or CPU
    live = live_bytes(trace, workspaces_for(platform_of(target, trace)))
    compute = estimate_compute(trace)
    memory = estimate_memory(trace, live) if trace.calls else None
    if memory is not None and target.gpu is not None and trace.failure is None:
        memory = estimate_on_gpu(trace, target.gpu, memory)
        memory = replace(memory, intervals=intervals_on_gpu(trace, target.gpu, memory))
    table = ModuleTable(module_reports(trace, compute, live))
    time = _predicted(trace, target)
    if time is not None:
        table = with_times(table, trace, time)
    return Report(
        tool_version=__version__,
        torch_version=trace.torch_version,
        execution=trace.execution,
        model_name=trace.model_name,
        model_spec=model_spec,
        scenario=trace.scenario,
        inputs=trace.inputs,
        outputs=trace.outputs,
        totals=totals(trace, compute),
        memory=memory,
        modules=table,
        batch_size=trace.batch_size,
        not_counted=(*compute.not_counted, *trace.not_counted, *never_used(trace)),
        assumptions=(*trace.assumptions, *target.assumptions, *_time_assumptions(trace, time)),
        warnings=(*trace.warnings, *target.warnings_of(trace)),
        failure=trace.failure,
        time=time.step if time is not None else None,
    )


def _predicted(trace: Trace, target: Target) -> ReportedTime | None:
    prediction = prediction_of(trace, target)
    return None if prediction is None else reported(trace, prediction)


def prediction_of(trace: Trace, target: Target) -> Prediction | None:
    """Return the step on the scenario's device; ``None`` where none can be predicted.

    That is a CPU that was not calibrated, a GPU whose rates are not known, a step that failed.
    """
    if trace.failure is not None or not trace.calls:
        return None
    if target.device is None:
        found = target.calibration
        return predict_on_cpu(trace, found) if found is not None else None
    model = model_of(target.device, trace.scenario)
    if not model.is_predictable:
        return None
    return predict(trace, model, compiled=trace.scenario.compiled)


def timeline_of(trace: Trace, target: Target, memory: MemoryEstimate | None) -> Timeline:
    """Return the predicted step laid out in time.

    Raises:
        ScenarioError: no time can be predicted for the device, or nothing ran.
    """
    prediction = prediction_of(trace, target)
    if prediction is None or memory is None:
        raise ScenarioError(
            f"there is no timeline to predict for {trace.scenario.device}",
            hint="name a GPU (torchgauge devices lists them) and an input; for the CPU at hand, "
            "torchgauge measure --calibrate first, or let measure() record one",
        )
    return predicted_timeline(trace, prediction, memory)


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


def _time_assumptions(trace: Trace, time: ReportedTime | None) -> tuple[str, ...]:
    if time is None:
        return ()
    if trace.scenario.device == "cpu":
        return ("time: the step repeated, nothing else running on the CPU",)
    found = "time: data on the device, the GPU for itself, a desktop CPU that issues the kernels"
    if trace.scenario.compiled:
        return (found, "compiled: time of fused kernels; layers and memory of the eager step")
    return (found,)


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
