"""A predicted timeline as a report tells it: milliseconds of step, phases, ops, calls."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from torchgauge.estimate.compute.registry import short_name
from torchgauge.estimate.time.bottlenecks import bottlenecks
from torchgauge.estimate.time.prediction import KernelRun, Prediction
from torchgauge.facts.report import ModuleTable
from torchgauge.facts.time import OpTime, StepTime, TimePrediction
from torchgauge.facts.trace import Phase, Trace

_MILLISECONDS = 1e3
_MOST_OPS = 50


def reported(
    trace: Trace, prediction: Prediction, table: ModuleTable
) -> tuple[StepTime, ModuleTable]:
    """Return the time of the step, and the modules with that of their calls."""
    forward, backward, outside = prediction.call_seconds(len(trace.calls))
    phases, between = prediction.phase_seconds(), 0.0
    if prediction.gpu is None:
        between = prediction.total_seconds - sum(kernel.seconds for kernel in prediction.kernels)
    step = StepTime(
        forward_ms=phases.get(Phase.FORWARD, 0.0) * _MILLISECONDS,
        loss_ms=phases.get(Phase.LOSS, 0.0) * _MILLISECONDS,
        backward_ms=phases.get(Phase.BACKWARD, 0.0) * _MILLISECONDS,
        optimizer_ms=phases.get(Phase.OPTIMIZER, 0.0) * _MILLISECONDS,
        total_ms=prediction.total_seconds * _MILLISECONDS,
        outside_ms=outside * _MILLISECONDS,
        between_ops_ms=between * _MILLISECONDS,
        ops=_slowest(prediction),
        predicted=_described(trace, prediction),
    )
    return step, with_call_times(table, trace, forward, backward, unit_ms=_MILLISECONDS)


def with_call_times(
    table: ModuleTable,
    trace: Trace,
    forward: list[float],
    backward: list[float],
    *,
    unit_ms: float = 1.0,
) -> ModuleTable:
    """Return the modules with the time of each call, that of the calls inside it included.

    The lists have the time by call of the trace, sub-modules not included, in ``unit_ms``; they
    are added to.
    """
    for call in reversed(trace.calls):
        if call.parent >= 0:
            forward[call.parent] += forward[call.index]
            backward[call.parent] += backward[call.index]
    times: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for call in trace.calls:
        times[call.path].append((forward[call.index] * unit_ms, backward[call.index] * unit_ms))
    modules = []
    for module in table.values():
        calls = [
            replace(cost, time_ms=onward + back, backward_time_ms=back)
            for cost, (onward, back) in zip(module.calls, times[module.path], strict=True)
        ]
        modules.append(replace(module, calls=tuple(calls)))
    return ModuleTable(tuple(modules))


def _slowest(prediction: Prediction) -> tuple[OpTime, ...]:
    """Return the time by operator, kind of kernel and phase.

    What a GPU waits for an operator is in it; on a CPU that is time between operators.
    """
    groups: defaultdict[tuple[str, str, Phase], list[KernelRun]] = defaultdict(list)
    for kernel in prediction.kernels:
        groups[short_name(kernel.name), str(kernel.kind), kernel.phase].append(kernel)
    waits = prediction.gpu is not None
    found = [
        OpTime(
            name=name, kernel=kind, phase=phase, calls=len({kernel.op for kernel in group}),
            time_ms=sum(k.seconds + (k.idle if waits else 0.0) for k in group) * _MILLISECONDS,
        )
        for (name, kind, phase), group in groups.items()
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda item: -item.time_ms)[:_MOST_OPS])


def _described(trace: Trace, prediction: Prediction) -> TimePrediction:
    seconds, peak = prediction.total_seconds, prediction.peak_flops_per_second
    watts = prediction.gpu.tdp_watts if prediction.gpu is not None else None
    batch = trace.batch_size
    known, flops = bool(seconds), sum(kernel.flops for kernel in prediction.kernels)
    return TimePrediction(
        device=prediction.name,
        error=prediction.error,
        bound_by=prediction.bound_by(),
        samples_per_second=batch / seconds if batch and known else None,
        flops_share=flops / (peak * seconds) if peak and known else None,
        most_joules=watts * seconds if watts else None,
        bottlenecks=bottlenecks(trace, prediction),
    )
