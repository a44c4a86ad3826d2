"""The operators of a step, one entry each, with their work and their predicted time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from torchgauge.estimate.compute.flops import OpCost, op_cost
from torchgauge.estimate.step.texts import Texts, tensors_in, tensors_text
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
    costs = _costs(ops)
    spent = _spent(prediction)
    number = texts.number
    works = [_Work(op) for op in ops]
    return Operators(
        op=tuple(op.index for op in ops),
        name=tuple(number(_short(op.name)) for op in ops),
        module=tuple(number(trace.calls[op.call].path if op.call >= 0 else "") for op in ops),
        phase=tuple(number(str(op.phase)) for op in ops),
        recompute=tuple(op.recompute for op in ops),
        inputs=tuple(number(work.inputs) for work in works),
        outputs=tuple(number(work.outputs) for work in works),
        flops=tuple(cost.flops for cost in costs),
        elementwise_flops=tuple(cost.elementwise for cost in costs),
        nbytes=tuple(work.nbytes for work in works),
        **({} if prediction is None else _times([spent[op.index] for op in ops], texts)),
    )


def _short(name: str) -> str:
    """Return an operator's name without its overload."""
    return name.rpartition(".")[0] if name.count(".") > 1 else name


class _Work:
    def __init__(self, op: OpRecord) -> None:
        taken = tensors_in((*op.args, *(value for _, value in op.kwargs)))
        self.inputs, self.outputs = tensors_text(taken), tensors_text(op.outputs)
        moved = dict(zip(op.reads, taken, strict=False)) if len(op.reads) == len(taken) else None
        if moved is None:
            self.nbytes = sum(spec.nbytes for spec in (*taken, *op.outputs))
            return
        for storage, spec in zip(op.writes, op.outputs, strict=False):
            moved.setdefault(storage, spec)
        self.nbytes = sum(spec.nbytes for spec in moved.values())


def _costs(ops: list[OpRecord]) -> list[OpCost]:
    known: dict[tuple[object, ...], OpCost] = {}
    found = []
    for op in ops:  # a rule sees no more than these
        key = (op.name, id(op.args), id(op.kwargs), id(op.outputs))
        if key not in known:
            known[key] = op_cost(op) or _NO_WORK
        found.append(known[key])
    return found


@dataclass(slots=True)
class _Spent:
    total: float = 0.0
    start: float | None = None
    roof: float = 0.0
    longest: float = -1.0
    kind: str = ""
    bounds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, kernel: KernelRun, *, waits: bool) -> None:
        idle = kernel.idle if waits else 0.0
        self.total += kernel.seconds + idle
        self.roof += kernel.roof_seconds
        if self.start is None:
            self.start = kernel.start
        if kernel.seconds > self.longest:
            self.longest, self.kind = kernel.seconds, str(kernel.kind)
        running = kernel.seconds - kernel.launch_seconds
        self.bounds["compute" if kernel.is_compute_bound else "memory"] += running
        self.bounds["launch"] += kernel.launch_seconds + idle

    @property
    def bound_by(self) -> str:
        return max(self.bounds, key=self.bounds.__getitem__, default="")


def _spent(prediction: Prediction | None) -> defaultdict[int, _Spent]:
    found: defaultdict[int, _Spent] = defaultdict(_Spent)
    if prediction is not None:
        for kernel in prediction.kernels:
            found[kernel.op].add(kernel, waits=prediction.gpu is not None)
    return found


def _times(spent: list[_Spent], texts: Texts) -> dict[str, Any]:
    start, starts = 0.0, []
    for item in spent:  # what a fused kernel does has no start of its own
        start = start if item.start is None else item.start
        starts.append(start)
    ends = [_rounded(seconds) for seconds in accumulate((item.total for item in spent), initial=0)]
    return {
        # Differences of rounded running totals, so that they sum up to the step.
        "time_ms": tuple(round(end - before, _DIGITS) for before, end in pairwise(ends)),
        "start_ms": tuple(_rounded(seconds) for seconds in starts),
        "roof_ms": tuple(_rounded(item.roof) for item in spent),
        "kind": tuple(texts.number(item.kind) for item in spent),
        "bound_by": tuple(texts.number(item.bound_by) for item in spent),
    }


def _rounded(seconds: float) -> float:
    return round(seconds * _MILLISECONDS, _DIGITS)
