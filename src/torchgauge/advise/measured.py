"""The figures of a step, without the rest of a report: half of the time where many are traced."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torchgauge.analyze import model_error, run_model
from torchgauge.estimate.compute.modules import estimate_compute, totals
from torchgauge.estimate.memory.lifetimes import live_bytes
from torchgauge.estimate.memory.pipeline import estimate_memory, peak_on_gpu
from torchgauge.estimate.memory.workspaces import workspaces_for
from torchgauge.facts.fit import Verdict
from torchgauge.facts.trace import NamedValue, Trace
from torchgauge.reports import prediction_of, report_of
from torchgauge.request import Request
from torchgauge.target import Target, calibrated, platform_of
from torchgauge.trace.isolate.isolation import collector_paused


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a traced step comes to."""

    figures: dict[str, float]
    """By their names in a report: ``"totals.params"``, ``"time.total_ms"``."""
    fits: bool
    """Whether it fits the GPU that it was traced for; false for the CPU."""
    outputs: tuple[tuple[int, ...], ...] = ()
    """Shapes of the tensors that the model returned."""


def measured(request: Request) -> Measured:
    """Trace a step and return its figures, equal to those of ``analyze_model``.

    Raises:
        TorchGaugeError: what ``analyze_model`` raises.
    """
    with collector_paused():
        run = run_model(request)
        trace = run.outcome.trace
        if run.outcome.error is not None:
            raise model_error(run.outcome, report_of(trace, run.target)) from run.outcome.error
        return _figures(trace, calibrated(run.target, trace))


def shapes_of(values: Iterable[NamedValue]) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the tensors among what a model returned."""
    return tuple(value.tensor.shape for value in values if value.tensor is not None)


def _figures(trace: Trace, target: Target) -> Measured:
    sums = totals(trace, estimate_compute(trace))
    tensors = estimate_memory(trace, live_bytes(trace, workspaces_for(platform_of(target, trace))))
    figures: dict[str, float] = {
        "totals.params": sums.params,
        "totals.param_bytes": sums.param_bytes,
        "totals.forward_macs": sums.forward_macs,
        "totals.total_flops": sums.total_flops,
        "memory.saved_activation_bytes": tensors.saved_activation_bytes,
        "memory.peak_allocated_bytes": tensors.peak_allocated_bytes,
    }
    fits = False
    if target.gpu is not None:
        peak = peak_on_gpu(trace, target.gpu)
        figures["memory.peak_allocated_bytes"] = peak.allocated_bytes
        figures["memory.device_bytes"] = peak.device_bytes
        fits = target.gpu.usable_bytes is not None and peak.verdict is Verdict.FITS
    prediction = prediction_of(trace, target)
    if prediction is not None:
        figures["time.total_ms"] = prediction.total_seconds * 1e3
    return Measured(figures=figures, fits=fits, outputs=shapes_of(trace.outputs))
