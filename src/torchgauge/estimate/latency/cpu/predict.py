"""A step's time on a calibrated CPU, from its trace: one operator after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torchgauge.estimate.latency.cpu.calibration import Calibration, Overheads
from torchgauge.estimate.latency.cpu.page_faults import PAGE, faulted_bytes
from torchgauge.estimate.latency.cpu.work import CpuWork, work_of
from torchgauge.estimate.latency.kinds import Kind
from torchgauge.estimate.latency.prediction import Prediction
from torchgauge.estimate.latency.steady import is_first_step_only
from torchgauge.estimate.latency.timeline import KernelRun
from torchgauge.report.model import OpRecord, Phase, Trace

_MICROSECOND = 1e-6
_MOVED_BYTES = 8.0
"""Per element of an element-wise operator in float32: one read, one written."""
_OF_STRANGE = 1.0
"""Error of an operator that was not timed: a factor of two."""
_DTYPE_GROUPS = {
    Kind.MATMUL: "matmul",
    Kind.ATTENTION: "matmul",
    Kind.CONVOLUTION: "convolution",
    Kind.DEPTHWISE: "convolution",
}


def op_seconds(work: CpuWork, calibration: Calibration) -> float:
    """Return how long an operator takes by itself."""
    roof = calibration.roof.seconds(work.padded_flops, work.nbytes)
    surface = calibration.surface_of(work)
    if surface is None:
        return roof * calibration.typical_ratio(work.kind, max(1.0, work.nbytes / _MOVED_BYTES))
    group = _DTYPE_GROUPS.get(work.kind)
    slower = calibration.dtypes.get(work.dtype, {}).get(group, 1.0) if group else 1.0
    return slower * roof * surface.ratio(work.sizes)


def predict_on_cpu(trace: Trace, calibration: Calibration) -> Prediction:
    """Return the timeline of a trace's step on the CPU that was calibrated.

    An operator begins when the one before it has ended; Python, dispatch and autograd stand in
    between, as time that the processor's units are idle.
    """
    kernels: list[KernelRun] = []
    now = end = excess = 0.0
    for op, work, overhead, seconds in _ops(trace, calibration):
        now += overhead
        if op is None or work is None:
            continue
        surface = calibration.surface_of(work)
        error = _OF_STRANGE if surface is None else surface.error
        excess += seconds * max(0.0, error - calibration.error)
        kernels.append(_kernel(op, work, calibration, begin=now, idle=now - end, seconds=seconds))
        now = end = now + seconds
    return Prediction(
        name=str(calibration.cpu),
        kernels=tuple(kernels),
        cpu_seconds=now,
        peak_flops_per_second=calibration.roof.flops_per_second,
        # That of whole steps, and more for the share of operators that are known less well.
        error=calibration.error + (excess / now if now else 0.0),
    )


def _kernel(
    op: OpRecord,
    work: CpuWork,
    calibration: Calibration,
    *,
    begin: float,
    idle: float,
    seconds: float,
) -> KernelRun:
    roof = calibration.roof
    compute, memory = work.flops / roof.flops_per_second, work.nbytes / roof.bytes_per_second
    return KernelRun(
        op=op.index,
        name=op.name,
        kind=work.kind,
        dtype=work.dtype,
        call=op.call,
        phase=op.phase,
        issued=begin + seconds,
        start=begin,
        end=begin + seconds,
        idle=idle,
        compute_seconds=compute,
        memory_seconds=memory,
        launch_seconds=min(seconds, roof.op_seconds),
        roof_seconds=max(compute, memory),
        flops=work.flops,
        nbytes=work.nbytes,
    )


def _ops(
    trace: Trace, calibration: Calibration
) -> Iterator[tuple[OpRecord | None, CpuWork | None, float, float]]:
    """Yield each operator with the seconds before it and its own; last what comes after all."""
    entered = Counter(call.first_op for call in trace.calls)
    known: dict[CpuWork, float] = {}
    faulted = faulted_bytes(trace, calibration.cpu.threads)
    page_us, module_us = calibration.overheads.page_us, calibration.overheads.module_us
    left = sum(entered.values())
    waiting = 0
    for op in trace.ops:
        waiting += entered[op.index]
        left -= entered[op.index]
        if is_first_step_only(trace, op):
            continue
        work = work_of(op, calibration.cpu.threads)
        overhead = _overhead(op, work, trace, calibration.overheads)
        overhead += waiting * module_us
        waiting = 0
        seconds = 0.0
        if work is not None:
            if work not in known:
                known[work] = op_seconds(work, calibration)
            pages = faulted.get(op.index, 0) / PAGE
            seconds = known[work] + pages * page_us * _MICROSECOND
        yield op, work, overhead * _MICROSECOND, seconds
    yield None, None, (left + waiting) * module_us * _MICROSECOND, 0.0


def _overhead(op: OpRecord, work: CpuWork | None, trace: Trace, c: Overheads) -> float:
    """Return the microseconds of Python, dispatch and autograd before an operator."""
    found = c.view_us if work is None else c.op_us
    if op.phase is Phase.BACKWARD:
        return c.view_us if work is None else c.backward_us
    noted = trace.scenario.is_training and op.phase in (Phase.FORWARD, Phase.LOSS)
    return found + (c.gradient_us if noted else 0.0)
