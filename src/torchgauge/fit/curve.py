"""Throughput and memory over batch sizes, each a trace of its own; no GPU is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from torchgauge.analyze import as_module, model_error, prediction_of, report_of
from torchgauge.errors import InputError, ScenarioError
from torchgauge.estimate.memory.gpu import Gpu
from torchgauge.facts.curve import BatchCurve, BatchPoint
from torchgauge.facts.fit import Verdict
from torchgauge.facts.precision import dtypes_of
from torchgauge.facts.scenario import Scenario
from torchgauge.fit.bench import Bench, Setup
from torchgauge.fit.workloads import PlainRun
from torchgauge.target import Target, target_of
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.inputs.sizes import InputSize
from torchgauge.trace.inspect.wrappers import unwrap
from torchgauge.trace.isolate.isolation import collector_paused

_LARGEST = 1 << 14
"""Where a search by doubling ends when everything fits."""


@collector_paused()
def batch_curve(
    model: nn.Module,
    input_size: InputSize | None = None,
    *,
    scenario: Scenario,
    batch_sizes: Sequence[int] | None = None,
    input_data: Any = None,
    batch_size: int | None = None,
    batch_dim: int | None = None,
    dtypes: Sequence[str | torch.dtype] | None = None,
    loss: Callable[[Any], torch.Tensor] | None = None,
    model_name: str | None = None,
    real_run: bool = True,
    on_progress: Callable[[str], None] | None = None,
    forward_kwargs: Mapping[str, Any] | None = None,
) -> BatchCurve:
    """Trace a step at several batch sizes and return what each takes.

    Args are those of ``torchgauge.fits``; ``batch_sizes`` are powers of two up to the first that
    does not fit when they are left out.

    Raises:
        InputError: no input, or none with a batch dimension.
        ScenarioError: the device is no GPU whose time can be predicted.
        ModelError: the model raises.
    """
    model = as_module(model)
    plan = plan_inputs(
        model,
        input_size,
        input_data,
        batch_size=batch_size,
        batch_dim=batch_dim,
        dtypes=dtypes,
        forward_kwargs=forward_kwargs or {},
    )
    if plan is None:
        raise InputError("a batch size needs an input", hint="add a size: (3, 224, 224)")
    target = target_of(scenario)
    name = model_name or type(unwrap(model)).__name__
    workload = PlainRun(model=model, plan=plan)
    bench = Bench(
        workload=workload,
        model_name=name,
        loss=loss,
        real_run=real_run,
        on_progress=on_progress,
    )
    first = bench.outcome(Setup(scenario=scenario), target)
    if first.error is not None:
        raise model_error(first, report_of(first.trace, None, target)) from first.error
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
    found = list(_points(bench, scenario, target, target.gpu, batch_sizes))
    return BatchCurve(
        model_name=name,
        device=scenario.device if target.device is None else target.device.name,
        mode=str(scenario.mode),
        precision=str(scenario.precision),
        parameter_dtypes=dtypes_of(first.trace),
        error=max(error for _, error in found),
        points=tuple(point for point, _ in found),
    )


def _points(
    bench: Bench,
    scenario: Scenario,
    target: Target,
    gpu: Gpu,
    batch_sizes: Sequence[int] | None,
) -> Iterator[tuple[BatchPoint, float]]:
    """Yield each size with the error of its time; without sizes up to the first too large."""
    for size in _sizes(batch_sizes):
        setup = Setup(scenario=scenario, batch=size)
        bench.say(setup)
        outcome = bench.outcome(setup, target)
        if outcome.error is not None:
            raise model_error(outcome, report_of(outcome.trace, None, target)) from outcome.error
        prediction = prediction_of(outcome.trace, target)
        assert prediction is not None
        weight = bench.weighed(outcome.trace, gpu).weight
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
