"""Which dimensions grow with the batch: the same forward once more, with one sample more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from torchgauge.facts.codec.quick import with_changes
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Execution, ModuleCall, NamedValue, Trace
from torchgauge.trace.inputs.plan import InputPlan, InputTensor
from torchgauge.trace.inspect.irregular import is_irregular
from torchgauge.trace.isolate.isolation import unheard
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.run.session import Session


def name_batch(run_plan: RunPlan, trace: Trace) -> Trace:
    """Return the trace with ``batch_dims`` filled in; unchanged when it cannot be told.

    A dimension is named when it is a multiple of the batch size in both runs. The second run
    keeps no operators, so it costs about a bare forward.
    """
    batch = trace.batch_size
    plan = _one_more(run_plan.plan, batch) if batch else None
    if plan is None or not batch or trace.failure is not None:
        return trace
    if trace.execution is Execution.REAL:
        return trace
    scenario = Scenario(precision=run_plan.scenario.precision)
    second = replace(run_plan, plan=plan, scenario=scenario, on_progress=None)
    with unheard():  # it ran before
        outcome = Session(second, Execution.SIMULATED, keep_ops=False).run()
    if outcome.error is not None:
        return trace
    return _named_trace(trace, outcome.trace, batch, batch + 1) or trace


def named_by(trace: Trace, other: Trace) -> Trace | None:
    """Return the trace with ``batch_dims`` from a run of another batch, ``None`` if not all agree.

    All agree when both ran the same calls, and each size that differs grows with the batch.
    """
    batch, grown = trace.batch_size, other.batch_size
    if batch is None or grown is None or batch == grown or other.failure is not None:
        return None
    if Execution.REAL in (trace.execution, other.execution):
        return None
    named = _named_trace(trace, other, batch, grown)
    if named is None:
        return None
    explained: dict[tuple[int, int], bool] = {}
    for mine, its in zip(_forward_calls(named), _forward_calls(other), strict=True):
        for values, others in ((mine.inputs, its.inputs), (mine.outputs, its.outputs)):
            if len(values) != len(others):
                return None
            for value, its_value in zip(values, others, strict=True):
                key = id(value), id(its_value)  # equal values are one object
                if key not in explained:
                    explained[key] = _explained(value, its_value)
                if not explained[key]:
                    return None
    return named


def _forward_calls(trace: Trace) -> list[ModuleCall]:
    return [call for call in trace.calls if call.phase == "forward"]


def _explained(value: NamedValue, other: NamedValue) -> bool:
    """Return whether the sizes of two values differ in named dimensions alone."""
    mine, its = value.tensor, other.tensor
    if mine is None or its is None:
        return mine is its
    named = {dim for dim, _ in value.batch_dims}
    return len(mine.shape) == len(its.shape) and all(
        size == grown or dim in named
        for dim, (size, grown) in enumerate(zip(mine.shape, its.shape, strict=True))
    )


def _named_trace(trace: Trace, other: Trace, batch: int, grown: int) -> Trace | None:
    """Return a trace with ``batch_dims``, ``None`` where the other one called other modules."""
    forward, others = _forward_calls(trace), _forward_calls(other)
    calls = dict(zip((c.index for c in forward), others, strict=False))
    same = len(forward) == len(others) and all(
        call.path == calls[call.index].path for call in forward
    )
    if not same:
        return None

    known: dict[tuple[int, int], NamedValue] = {}

    def named(value: NamedValue, its_value: NamedValue) -> NamedValue:
        key = id(value), id(its_value)  # equal values are one object
        found = known.get(key)
        if found is None:
            found = known[key] = _named(value, its_value, batch, grown)
        return found

    def name(
        values: tuple[NamedValue, ...], others: tuple[NamedValue, ...]
    ) -> tuple[NamedValue, ...]:
        if len(values) != len(others):
            return values
        return tuple([named(v, o) for v, o in zip(values, others, strict=True)])

    def named_call(call: ModuleCall) -> ModuleCall:
        its_value = calls.get(call.index)
        if its_value is None:
            return call
        return with_changes(
            call,
            inputs=name(call.inputs, its_value.inputs),
            outputs=name(call.outputs, its_value.outputs),
        )

    return replace(
        trace,
        calls=tuple(named_call(call) for call in trace.calls),
        inputs=name(trace.inputs, other.inputs),
        outputs=name(trace.outputs, other.outputs),
    )


def _named(value: NamedValue, other: NamedValue, batch: int, other_batch: int) -> NamedValue:
    first, second = value.tensor, other.tensor
    if first is None or second is None or len(first.shape) != len(second.shape):
        return value
    dims = tuple(
        (dim, size // batch)
        for dim, (size, grown) in enumerate(zip(first.shape, second.shape, strict=True))
        if size != grown and size % batch == 0 and grown == size // batch * other_batch
    )
    return replace(value, batch_dims=dims) if dims else value


def _one_more(plan: InputPlan, batch: int) -> InputPlan | None:
    """Return the plan with one sample more in every input, ``None`` when that is not possible."""
    grown = 0

    def grow(value: Any) -> Any:
        nonlocal grown
        if isinstance(value, InputTensor):
            if value.has_batch(batch, plan.batch_dim):
                grown += 1
                return value.with_batch(batch + 1, plan.batch_dim)
        elif isinstance(value, torch.Tensor) and not is_irregular(value):
            if value.dim() > 0 and value.shape[0] == batch:
                grown += 1
                shape = (batch + 1, *value.shape[1:])
                return torch.empty(shape, dtype=value.dtype, device="meta")
        elif isinstance(value, Mapping):
            return {key: grow(item) for key, item in value.items()}
        return value

    args = tuple(grow(value) for value in plan.args)
    kwargs = {name: grow(value) for name, value in plan.kwargs.items()}
    return replace(plan, args=args, kwargs=kwargs) if grown else None
