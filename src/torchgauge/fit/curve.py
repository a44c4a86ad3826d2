"""Throughput and memory over batch sizes, each a trace of its own; no GPU is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from torchgauge.analyze import as_module, model_error, virtual_device_of
from torchgauge.errors import InputError, ScenarioError
from torchgauge.estimate.memory.device import Gpu
from torchgauge.facts.fit import BatchCurve, BatchPoint, Verdict
from torchgauge.facts.precision import dtypes_of
from torchgauge.facts.scenario import Scenario
from torchgauge.fit.finder import tracer_of
from torchgauge.fit.variants import Variant, VariantTracer
from torchgauge.fit.workloads import PlainRun
from torchgauge.reports import prediction_of, report_of
from torchgauge.request import Request
from torchgauge.target import Target, target_of
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.isolate.isolation import collector_paused

_LARGEST = 1 << 14
"""Where a search by doubling ends when everything fits."""


@collector_paused()
def batch_curve(asked: Request, batch_sizes: Sequence[int] | None = None) -> BatchCurve:
    """Trace a step at several batch sizes and return what each takes.

    ``batch_sizes`` are powers of two up to the first that does not fit when they are left out.

    Raises:
        InputError: no input, or none with a batch dimension.
        ScenarioError: the device is not a GPU whose time can be predicted.
        ModelError: the model raises.
    """
    asked = replace(asked, model=as_module(asked.model))
    plan = plan_inputs(asked.model, asked.inputs)
    if plan is None:
        raise InputError("a batch size needs an input", hint="add a size: (3, 224, 224)")
    scenario = asked.scenario
    target = target_of(scenario)
    workload = PlainRun(model=asked.model, plan=plan)
    tracer = tracer_of(asked, workload)
    device = virtual_device_of(target)
    first = tracer.outcome(Variant(scenario=scenario), device)
    if first.error is not None:
        raise model_error(first, report_of(first.trace, target)) from first.error
    if first.trace.batch_size is None:
        raise InputError(
            "the inputs do not say which of their dimensions is the batch",
            hint="give sizes without it and batch_size=1",
        )
    if target.gpu is None or prediction_of(first.trace, target) is None:
        raise ScenarioError(
            f"no time can be predicted for {scenario.device}"
            + (": a curve over batch sizes is made for GPUs" if target.gpu is None else ""),
            hint="name a GPU: device='RTX 3090' (torchgauge devices lists them)",
        )
    workload.plan = replace(first.plan or plan, alternatives=())
    found = list(_points(tracer, scenario, target, target.gpu, batch_sizes))
    device_name = scenario.device if target.device is None else target.device.name
    return BatchCurve(
        model_name=tracer.model_name,
        device=device_name,
        scenario=replace(scenario, device=device_name),
        parameter_dtypes=dtypes_of(first.trace),
        error=max(error for _, error in found),
        points=tuple(point for point, _ in found),
    )


def _points(
    tracer: VariantTracer,
    scenario: Scenario,
    target: Target,
    gpu: Gpu,
    batch_sizes: Sequence[int] | None,
) -> Iterator[tuple[BatchPoint, float]]:
    """Yield each size with the error of its time; without sizes up to the first too large."""
    for size in _sizes(batch_sizes):
        variant = Variant(scenario=scenario, batch=size)
        tracer.say(variant)
        outcome = tracer.outcome(variant, virtual_device_of(target))
        if outcome.error is not None:
            raise model_error(outcome, report_of(outcome.trace, target)) from outcome.error
        prediction = prediction_of(outcome.trace, target)
        assert prediction is not None
        weight = tracer.weighed(outcome.trace, gpu).weight
        shares = prediction.bound_by()
        point = BatchPoint(
            batch=size,
            step_ms=prediction.total_seconds * 1e3,
            device_bytes=weight.device_bytes,
            verdict=weight.verdict,
            bound_by=max(shares, key=shares.__getitem__),
        )
        yield point, prediction.error
        if batch_sizes is None and weight.verdict is Verdict.DOES_NOT_FIT:
            return


def _sizes(asked: Sequence[int] | None) -> Iterable[int]:
    if asked is None:
        return (1 << power for power in range(_LARGEST.bit_length()))
    wrong = [size for size in asked if size < 1]
    if wrong or not asked:
        raise InputError(f"batch sizes {list(asked)} are not all positive", hint="1 or more")
    return sorted(set(asked))
