"""Trace + device → ``Report``: the estimators, in order. Pure functions; none imports torch."""

from __future__ import annotations

from dataclasses import replace

from torchgauge.devices.evidence import evidence_text
from torchgauge.devices.family import FAMILIES, capabilities_of
from torchgauge.devices.tables import coefficients
from torchgauge.errors import ScenarioError
from torchgauge.estimate.compute.modules import estimate_compute, module_reports, never_used, totals
from torchgauge.estimate.memory.intervals import spread_of
from torchgauge.estimate.memory.lifetimes import live_bytes
from torchgauge.estimate.memory.pipeline import estimate_memory, estimate_on_gpu
from torchgauge.estimate.memory.workspaces import workspaces_for
from torchgauge.estimate.step.flow import flow_of
from torchgauge.estimate.step.operators import operators_of
from torchgauge.estimate.step.roles import role_bytes, roles_on_cpu, roles_on_gpu
from torchgauge.estimate.step.texts import Texts
from torchgauge.estimate.time.cpu.predict import predict_on_cpu
from torchgauge.estimate.time.gpu import Prediction, predict
from torchgauge.estimate.time.gpu.device_model import model_of
from torchgauge.estimate.time.reporting import reported
from torchgauge.estimate.time.trace_file import predicted_timeline
from torchgauge.facts.memory import MemoryEstimate
from torchgauge.facts.pictures.step import Roof, Step
from torchgauge.facts.pictures.timeline import Timeline
from torchgauge.facts.report import ModuleTable, Report
from torchgauge.facts.time import StepTime
from torchgauge.facts.trace import Trace
from torchgauge.target import CPU, Target, calibrated, platform_of, target_of
from torchgauge.version import __version__


def estimate_trace(trace: Trace, device: str | None = None) -> Report:
    """Return the report of a trace on a device; see ``torchgauge.estimate``."""
    scenario = trace.scenario if device is None else replace(trace.scenario, device=device)
    target = target_of(scenario, trace.torch_version)
    if target.device is not None and scenario.device != "cuda":
        scenario = replace(scenario, device=target.device.name)
    if target.family != trace.kernels:
        raise ScenarioError(
            f"the trace holds the kernels of {_family(trace.kernels)}; {scenario.device} runs "
            "other kernels",
            hint=f"trace the model again: analyze(…, device={scenario.device!r})",
        )
    trace = replace(trace, scenario=scenario)
    return replace(report_of(trace, calibrated(target, trace)), trace=trace)


def _family(kernels: str) -> str:
    if kernels not in FAMILIES:
        return {"cpu": "the CPU"}.get(kernels, "an unknown device")
    first, end = capabilities_of(kernels)
    return f"GPUs of compute capability {first} up to {end}"


def report_of(trace: Trace, target: Target = CPU) -> Report:
    """Estimate a trace's costs; a pure function of the trace and what it runs on."""
    live = live_bytes(trace, workspaces_for(platform_of(target, trace)))
    compute = estimate_compute(trace)
    memory = estimate_memory(trace, live) if trace.calls else None
    if memory is not None and target.gpu is not None and trace.failure is None:
        memory = estimate_on_gpu(trace, target.gpu, memory)
    table = ModuleTable(module_reports(trace, compute, live))
    time, prediction = None, prediction_of(trace, target)
    if prediction is not None:
        time, table = reported(trace, prediction, table)
    return Report(
        tool_version=__version__,
        torch_version=trace.torch_version,
        execution=trace.execution,
        model_name=trace.model_name,
        model_spec=trace.model_spec,
        scenario=trace.scenario,
        inputs=trace.inputs,
        outputs=trace.outputs,
        totals=totals(trace, compute),
        memory=memory,
        modules=table,
        batch_size=trace.batch_size,
        not_counted=(*compute.not_counted, *trace.not_counted, *never_used(trace)),
        assumptions=(
            *trace.assumptions,
            *target.assumptions,
            *_memory_assumptions(trace, target, memory),
            *_time_assumptions(trace, time, target),
        ),
        warnings=(*trace.warnings, *target.warnings_of(trace)),
        failure=trace.failure,
        time=time,
    )


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
            hint="name a GPU (torchgauge devices lists them) and an input; for this CPU, "
            "torchgauge measure --calibrate first, or let measure() record one",
        )
    return predicted_timeline(trace, prediction, memory)


def step_of(trace: Trace, memory: MemoryEstimate | None = None) -> Step:
    """Return what a trace's step did on its scenario's device, for pictures.

    ``memory`` is what the trace's report says of it, where there is one: it takes long to work out.
    """
    target = calibrated(target_of(trace.scenario, trace.torch_version), trace)
    live = live_bytes(trace, workspaces_for(platform_of(target, trace)))
    on_gpu = target.gpu if trace.failure is None else None
    if memory is None:
        memory = estimate_memory(trace, live)
        if on_gpu is not None:
            memory = estimate_on_gpu(trace, on_gpu, memory)
    roles = roles_on_cpu(trace, live) if on_gpu is None else roles_on_gpu(trace, on_gpu)
    texts = Texts()
    prediction = prediction_of(trace, target)
    return Step(
        operators=operators_of(trace, prediction, texts),
        memory=role_bytes(memory.timeline, roles, texts),
        flow=flow_of(trace, texts),
        roof=_roof(prediction),
        texts=texts.all(),
    )


def _roof(prediction: Prediction | None) -> Roof | None:
    if prediction is None or prediction.gpu is None:
        return None
    peak = prediction.peak_flops_per_second or prediction.gpu.fp32_flops_per_second
    if not peak:
        return None
    return Roof(
        device=prediction.name,
        flops_per_second=peak,
        bytes_per_second=prediction.gpu.bandwidth_bytes_per_second,
    )


def _memory_assumptions(
    trace: Trace, target: Target, memory: MemoryEstimate | None
) -> tuple[str, ...]:
    if memory is None or memory.peak_reserved_bytes is None:
        return ()
    return (spread_of(trace, target.platform, memory.peak_reserved_bytes).assumption,)


def _time_assumptions(trace: Trace, time: StepTime | None, target: Target) -> tuple[str, ...]:
    if time is None:
        return ()
    if target.device is None:
        return ("time: the step repeated, nothing else running on the CPU",)
    found = (
        "time assumes that the batch is on the GPU, nothing else uses the GPU, and a desktop CPU "
        "issues the kernels",
        f"time: {evidence_text(target.device, coefficients())}",
    )
    if trace.scenario.compiled:
        return (*found, "compiled: time of fused kernels; layers and memory of the eager step")
    return found
