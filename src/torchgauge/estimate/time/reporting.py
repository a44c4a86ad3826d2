"""A predicted timeline as a report tells it: milliseconds of step, phases, ops, calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torchgauge.estimate.compute.registry import short_name
from torchgauge.estimate.time.bottlenecks import bottlenecks
from torchgauge.estimate.time.prediction import KernelRun, Prediction
from torchgauge.facts.report import CallCost, ModuleTable
from torchgauge.facts.time import OpTime, StepTime, TimePrediction
from torchgauge.facts.trace import Phase, Trace

_MILLISECONDS = 1e3
_MOST_OPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedTime:
    """What a report takes from a prediction."""

    step: StepTime
    forward_ms: tuple[float, ...]
    """By call of the trace, sub-modules included."""
    backward_ms: tuple[float, ...]


def reported(trace: Trace, prediction: Prediction) -> ReportedTime:
    """Return a prediction in milliseconds, per call with sub-modules."""
    forward, backward, outside = prediction.call_seconds(len(trace.calls))
    add_submodules(trace, forward, backward)
    phases = prediction.phase_seconds()
    step = StepTime(
        forward_ms=phases.get(Phase.FORWARD, 0.0) * _MILLISECONDS,
        loss_ms=phases.get(Phase.LOSS, 0.0) * _MILLISECONDS,
        backward_ms=phases.get(Phase.BACKWARD, 0.0) * _MILLISECONDS,
        optimizer_ms=phases.get(Phase.OPTIMIZER, 0.0) * _MILLISECONDS,
        total_ms=prediction.total_seconds * _MILLISECONDS,
        outside_ms=outside * _MILLISECONDS,
        between_ops_ms=_between_ops(prediction) * _MILLISECONDS,
        ops=_slowest(prediction),
        predicted=_described(trace, prediction),
    )
    return ReportedTime(
        step=step,
        forward_ms=tuple(seconds * _MILLISECONDS for seconds in forward),
        backward_ms=tuple(seconds * _MILLISECONDS for seconds in backward),
    )


def add_submodules(trace: Trace, forward: list[float], backward: list[float]) -> None:
    """Add to the time of each call those of the calls inside it."""
    for call in reversed(trace.calls):
        if call.parent >= 0:
            forward[call.parent] += forward[call.index]
            backward[call.parent] += backward[call.index]


def with_call_times(
    table: ModuleTable, trace: Trace, forward_ms: Sequence[float], backward_ms: Sequence[float]
) -> ModuleTable:
    """Return the modules with milliseconds by call of the trace, sub-modules included."""
    indices: defaultdict[str, list[int]] = defaultdict(list)
    for call in trace.calls:
        indices[call.path].append(call.index)

    def timed(cost: CallCost, index: int) -> CallCost:
        backward = backward_ms[index]
        return replace(cost, time_ms=forward_ms[index] + backward, backward_time_ms=backward)

    return ModuleTable(
        tuple(
            replace(
                module,
                calls=tuple(
                    timed(cost, index)
                    for cost, index in zip(module.calls, indices[module.path], strict=True)
                ),
            )
            for module in table.values()
        )
    )


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


def _between_ops(prediction: Prediction) -> float:
    """Return the seconds outside of every operator."""
    if prediction.gpu is not None:
        return 0.0
    return prediction.total_seconds - sum(kernel.seconds for kernel in prediction.kernels)


def _described(trace: Trace, prediction: Prediction) -> TimePrediction:
    seconds, peak = prediction.total_seconds, prediction.peak_flops_per_second
    watts = prediction.gpu.tdp_watts if prediction.gpu is not None else None
    batch = trace.batch_size
    known = bool(seconds)
    return TimePrediction(
        device=prediction.name,
        error=prediction.error,
        bound_by=prediction.bound_by(),
        samples_per_second=batch / seconds if batch and known else None,
        flops_share=prediction.flops / (peak * seconds) if peak and known else None,
        most_joules=watts * seconds if watts else None,
        bottlenecks=bottlenecks(trace, prediction),
    )
