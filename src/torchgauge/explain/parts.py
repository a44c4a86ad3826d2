"""The parts of each figure, of the whole model or below one module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from torchgauge.estimate.arguments import given_tensors
from torchgauge.estimate.compute.flops import op_cost
from torchgauge.estimate.compute.registry import short_name
from torchgauge.estimate.memory.lifetimes import live_bytes
from torchgauge.estimate.memory.peak import PeakBlock, blocks_at_peak
from torchgauge.estimate.memory.roles import saved_activations
from torchgauge.estimate.memory.workspaces import workspaces_for
from torchgauge.estimate.step.texts import tensors_text
from torchgauge.estimate.time.prediction import Prediction
from torchgauge.facts.explanation import Contribution
from torchgauge.facts.report import Report
from torchgauge.facts.trace import OpRecord, Phase, Role, StorageRecord, Trace
from torchgauge.reports import prediction_of
from torchgauge.target import Target, platform_of

_MILLISECONDS = 1e3
_FORWARD = (Phase.FORWARD, Phase.LOSS)
_WAITING = "waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A report with its trace and what it runs on."""

    report: Report
    trace: Trace
    target: Target


def params(step: Step) -> Iterator[Contribution]:
    """Yield the parameters, each once."""
    for module in step.trace.modules:
        for item in module.parameters:
            if not item.is_buffer and item.shared_with is None:
                yield Contribution(
                    name=item.name,
                    module=module.path,
                    phase="",
                    count=1,
                    value=item.numel,
                    detail=f"{list(item.shape)} {item.dtype}",
                )


def macs(step: Step) -> Iterator[Contribution]:
    """Yield the multiply-adds of the forward and the loss."""
    for item in _flops(step.trace, _FORWARD):
        yield replace(item, value=item.value / 2)


def flops(step: Step) -> Iterator[Contribution]:
    """Yield the FLOPs of all phases."""
    return _flops(step.trace, tuple(Phase))


def peak_allocated(step: Step) -> Iterator[Contribution]:
    """Yield the blocks that are alive at the peak."""
    live = live_bytes(step.trace, workspaces_for(platform_of(step.target, step.trace)))
    for block in blocks_at_peak(step.trace, live, step.target.gpu):
        yield _of_block(step.trace, block)


def device_bytes(step: Step) -> Iterator[Contribution]:
    """Yield the blocks, what the allocator holds beyond them, and the context."""
    yield from peak_allocated(step)
    memory = step.report.memory
    assert memory is not None
    reserved, context = memory.peak_reserved_bytes or 0, memory.context_bytes or 0
    beyond = reserved - memory.peak_allocated_bytes
    yield _plain("held by the allocator beyond the peak", "allocator", beyond)
    yield _plain("CUDA context", "context", context)


def saved(step: Step) -> Iterator[Contribution]:
    """Yield what the backward needs."""
    for storage in saved_activations(step.trace):
        block = PeakBlock(role=storage.role, nbytes=storage.nbytes, storage=storage)
        yield _of_block(step.trace, block)


def time(step: Step) -> Iterator[Contribution]:
    """Yield the time of each operator; what is left is spent between them."""
    prediction = prediction_of(step.trace, step.target)
    assert prediction is not None
    spent = 0.0
    for item in _times(step.trace, prediction):
        spent += item.value
        yield item
    left = prediction.total_seconds * _MILLISECONDS - spent
    if abs(left) > 1e-9:
        yield _plain("between operators", _WAITING, left)


def merged(parts: Iterable[Contribution]) -> tuple[Contribution, ...]:
    """Return parts with equal names of one module and phase as one, the largest first."""
    found: dict[tuple[str, str, str], Contribution] = {}
    for part in parts:
        key = part.name, part.module, part.phase
        before = found.get(key)
        if before is None:
            found[key] = part
            continue
        found[key] = replace(
            before, count=before.count + part.count, value=before.value + part.value
        )
    there = (part for part in found.values() if part.value)
    return tuple(sorted(there, key=lambda part: (-part.value, part.module, part.name)))


PARTS: dict[str, Callable[[Step], Iterator[Contribution]]] = {
    "params": params,
    "macs": macs,
    "flops": flops,
    "peak_allocated": peak_allocated,
    "device_bytes": device_bytes,
    "saved_activations": saved,
    "time": time,
}


# ------------------------------------------------------------------ operators


def _flops(trace: Trace, phases: tuple[Phase, ...]) -> Iterator[Contribution]:
    for op in trace.ops:
        if op.phase not in phases:
            continue
        cost = op_cost(op)
        if cost is not None and cost.flops:
            yield _of_op(trace, op, cost.flops)


def _times(trace: Trace, prediction: Prediction) -> Iterator[Contribution]:
    seconds: dict[int, float] = {}
    for kernel in prediction.kernels:
        idle = kernel.idle if prediction.gpu is not None else 0.0
        seconds[kernel.op] = seconds.get(kernel.op, 0.0) + kernel.seconds + idle
    for op in trace.ops:
        if op.index in seconds:
            yield _of_op(trace, op, seconds[op.index] * _MILLISECONDS)


def _of_op(trace: Trace, op: OpRecord, value: float) -> Contribution:
    return Contribution(
        name=short_name(op.name),
        module=trace.calls[op.call].path if op.call >= 0 else "",
        phase=str(op.phase),
        count=1,
        value=value,
        detail=f"{tensors_text(given_tensors(op))} → {tensors_text(op.outputs)}",
    )


# ------------------------------------------------------------------ blocks


def _of_block(trace: Trace, block: PeakBlock) -> Contribution:
    storage = block.storage
    if storage is None:
        name = f"workspace of {short_name(block.op)}" if block.op else "rounding to 512 bytes"
        return Contribution(
            name=name,
            module=block.module,
            phase=str(block.role),
            count=1,
            value=block.nbytes,
            detail="",
        )
    return Contribution(
        name=short_name(storage.label),
        module=_module_of(trace, storage),
        phase=str(block.role),
        count=1,
        value=block.nbytes,
        detail=storage.code or _shape_of(trace, storage),
    )


def _module_of(trace: Trace, storage: StorageRecord) -> str:
    if storage.role in (Role.PARAMETER, Role.BUFFER, Role.GRADIENT):
        return storage.label.rpartition(".")[0]
    return trace.calls[storage.call].path if storage.call >= 0 else ""


def _shape_of(trace: Trace, storage: StorageRecord) -> str:
    if not 0 <= storage.op < len(trace.ops):
        return ""
    op = trace.ops[storage.op]
    made = (spec for spec, at in zip(op.outputs, op.writes, strict=False) if at == storage.index)
    return tensors_text(tuple(made)[:1])


def _plain(name: str, phase: str, value: float) -> Contribution:
    return Contribution(name=name, module="", phase=phase, count=1, value=value, detail="")
