"""The operators of a step, one entry each, with their work and their predicted time."""

from __future__ import annotations

from collections import defaultdict
from itertools import accumulate, pairwise
from typing import Any

from torchgauge.estimate.arguments import given_tensors
from torchgauge.estimate.compute.flops import OpCost, op_costs
from torchgauge.estimate.compute.registry import short_name
from torchgauge.estimate.step.texts import Texts, tensors_text
from torchgauge.estimate.time.prediction import KernelRun, Prediction
from torchgauge.facts.pictures.step import Operators
from torchgauge.facts.trace import OpRecord, Trace

_MILLISECONDS = 1e3
_DIGITS = 6
"""Decimals of a millisecond: a nanosecond."""
_NO_WORK = OpCost(flops=0, elementwise=0)


def operators_of(trace: Trace, prediction: Prediction | None, texts: Texts) -> Operators:
    """Return the operators that do something: views are left out."""
    ops = [op for op in trace.ops if not op.is_view]
    costs = [cost or _NO_WORK for _, cost in op_costs(ops)]
    number = texts.number
    works = [_Work(op) for op in ops]
    return Operators(
        op=tuple(op.index for op in ops),
        name=tuple(number(short_name(op.name)) for op in ops),
        module=tuple(number(trace.calls[op.call].path if op.call >= 0 else "") for op in ops),
        phase=tuple(number(str(op.phase)) for op in ops),
        recompute=tuple(op.recompute for op in ops),
        inputs=tuple(number(work.inputs) for work in works),
        outputs=tuple(number(work.outputs) for work in works),
        flops=tuple(cost.flops for cost in costs),
        elementwise_flops=tuple(cost.elementwise for cost in costs),
        nbytes=tuple(work.nbytes for work in works),
        **({} if prediction is None else _times(ops, prediction, texts)),
    )


class _Work:
    def __init__(self, op: OpRecord) -> None:
        taken = given_tensors(op)
        self.inputs, self.outputs = tensors_text(taken), tensors_text(op.outputs)
        moved = dict(zip(op.reads, taken, strict=False)) if len(op.reads) == len(taken) else None
        if moved is None:
            self.nbytes = sum(spec.nbytes for spec in (*taken, *op.outputs))
            return
        for storage, spec in zip(op.writes, op.outputs, strict=False):
            moved.setdefault(storage, spec)
        self.nbytes = sum(spec.nbytes for spec in moved.values())


def _times(ops: list[OpRecord], prediction: Prediction, texts: Texts) -> dict[str, Any]:
    """Return what each operator's kernels take, those that are part of another's nothing."""
    kernels: defaultdict[int, list[KernelRun]] = defaultdict(list)
    for kernel in prediction.kernels:
        kernels[kernel.op].append(kernel)
    runs = [kernels[op.index] for op in ops]
    waits = prediction.gpu is not None
    spent = [sum(k.seconds + (k.idle if waits else 0.0) for k in group) for group in runs]
    ends = [_rounded(seconds) for seconds in accumulate(spent, initial=0)]
    starts = [0.0]
    for group in runs:  # what a fused kernel does has no start of its own
        starts.append(group[0].start if group else starts[-1])
    longest = [max(group, key=lambda kernel: kernel.seconds, default=None) for group in runs]
    return {
        # Differences of rounded running totals, so that they sum up to the step.
        "time_ms": tuple(round(end - before, _DIGITS) for before, end in pairwise(ends)),
        "start_ms": tuple(_rounded(seconds) for seconds in starts[1:]),
        "roof_ms": tuple(_rounded(sum(k.roof_seconds for k in group)) for group in runs),
        "kind": tuple(texts.number(str(kernel.kind) if kernel else "") for kernel in longest),
        "bound_by": tuple(texts.number(_bound_by(group, waits=waits)) for group in runs),
    }


def _bound_by(kernels: list[KernelRun], *, waits: bool) -> str:
    bounds: defaultdict[str, float] = defaultdict(float)
    for kernel in kernels:
        bounds[kernel.bound_by] += kernel.seconds - kernel.launch_seconds
        bounds["launch"] += kernel.launch_seconds + (kernel.idle if waits else 0.0)
    return max(bounds, key=bounds.__getitem__, default="")


def _rounded(seconds: float) -> float:
    return round(seconds * _MILLISECONDS, _DIGITS)
