"""A step's time on a calibrated CPU, from its trace: one operator after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from torchgauge.estimate.memory.workspaces import Platform, workspaces_for
from torchgauge.estimate.time.cpu.caches import LIKE, MODULE, PYTHON, VIEW, LastUses
from torchgauge.estimate.time.cpu.calibration import Calibration, Overheads
from torchgauge.estimate.time.cpu.page_faults import PAGE, faulted_bytes
from torchgauge.estimate.time.cpu.work import CpuWork, work_of
from torchgauge.estimate.time.prediction import KernelRun, Prediction
from torchgauge.estimate.time.steady import is_first_step_only
from torchgauge.facts.trace import ModuleCall, OpRecord, Phase, Trace

_MICROSECOND = 1e-6
_MOVED_BYTES = 8.0
"""Per element of an element-wise operator in float32: one read, one written."""
_OF_STRANGE = 1.0
"""Error of an operator that was not timed: a factor of two."""
_FIRST = ".first"
"""In the name of a surface: first layers, which are timed with nothing in the caches."""
_TIMED_WITHIN = 8.0 * 2**20
"""Bytes between two uses of the memory in which most operators were timed; large ones have some
tens of MiB between them, but there the curves are flat."""


def op_seconds(work: CpuWork, calibration: Calibration) -> float:
    """Return how long an operator takes, without what surrounds it."""
    roof = calibration.roof.seconds(work.padded_flops, work.nbytes)
    surface = calibration.surface_of(work)
    if surface is None:
        return roof * calibration.typical_ratio(work.kind, max(1.0, work.nbytes / _MOVED_BYTES))
    kind = LIKE.get(work.kind, work.kind)
    slower = calibration.dtypes.get(work.dtype, {}).get(kind, 1.0)  # only of products
    return slower * roof * surface.ratio(work.sizes)


def predict_on_cpu(trace: Trace, calibration: Calibration) -> Prediction:
    """Return the timeline of a trace's step on the CPU that was calibrated.

    An operator begins when the one before it has ended; Python, dispatch and autograd stand in
    between, as time that the processor's units are idle.
    """
    kernels: list[KernelRun] = []
    roof, steps = calibration.roof, _Steps(trace, calibration)
    now = end = excess = 0.0
    waits: list[tuple[int, float]] = []
    for op in trace.ops:
        if op.index not in steps.works:
            continue
        entered = list(steps.entered(op.index))
        overhead, seconds = steps.times_of(op)
        waits += entered
        now += overhead + sum(seconds for _, seconds in entered)
        work = steps.works[op.index]
        if work is None:
            continue
        surface = calibration.surface_of(work)
        error = _OF_STRANGE if surface is None else surface.error
        excess += seconds * max(0.0, error - calibration.error)
        idle, start, end = now - end, now, now + seconds
        compute, memory = work.flops / roof.flops_per_second, work.nbytes / roof.bytes_per_second
        kernels.append(
            KernelRun(
                op=op.index, name=op.name, kind=work.kind, dtype=work.dtype,
                call=op.call, phase=op.phase, waits=tuple(waits),
                issued=end, start=start, end=end, idle=idle,
                compute_seconds=compute, memory_seconds=memory,
                launch_seconds=min(seconds, roof.op_seconds),
                roof_seconds=max(compute, memory), flops=work.flops, nbytes=work.nbytes,
            )
        )  # fmt: skip
        waits = []
        now = end
    now += sum(seconds for _, seconds in steps.entered(len(trace.ops)))
    return Prediction(
        name=str(calibration.cpu),
        kernels=tuple(kernels),
        cpu_seconds=now,
        peak_flops_per_second=roof.flops_per_second,
        # That of whole steps, and more for the share of operators that are known less well.
        error=calibration.error + (excess / now if now else 0.0),
    )


class _Steps:
    """The operators of a trace, asked for in order, with their times."""

    def __init__(self, trace: Trace, calibration: Calibration) -> None:
        self._calibration = calibration
        self._is_training = trace.scenario.is_training
        self._calls = deque(sorted(trace.calls, key=lambda call: call.first_op))
        threads = calibration.cpu.threads
        self._faulted = faulted_bytes(trace, threads)
        self.works = {
            op.index: work_of(op, threads) for op in trace.ops if not is_first_step_only(trace, op)
        }
        workspaces = workspaces_for(Platform(type="cpu", threads=threads))
        scratch = {op.index: workspaces(op) for op in trace.ops if op.index in self.works}
        # Scratch memory is written and read.
        self._traffic = {
            index: work.nbytes + 2.0 * sum(scratch[index])
            for index, work in self.works.items()
            if work is not None
        }
        self._last_uses = LastUses(trace, self._traffic, scratch)
        self._known: dict[CpuWork, float] = {}
        self._types = {module.path: module.type for module in trace.modules}

    def entered(self, op: int) -> Iterator[tuple[int, float]]:
        """Yield what entering the calls up to an operator takes, and what Python inside them."""
        while self._calls and self._calls[0].first_op <= op:
            yield from self._python(self._calls.popleft())

    def _python(self, call: ModuleCall) -> Iterator[tuple[int, float]]:
        """Yield what entering a call takes of the one around it, and its own Python."""
        overheads, caches = self._calibration.overheads, self._calibration.caches
        distance = self._last_uses.code(MODULE)
        entering = overheads.module_us * _MICROSECOND + caches.code_seconds(MODULE, distance)
        yield call.parent, entering
        if call.python_calls:
            distance = self._last_uses.code(f"{PYTHON} of {self._types.get(call.path)}")
            per_call = overheads.python_us * _MICROSECOND + caches.code_seconds(PYTHON, distance)
            yield call.index, call.python_calls * per_call

    def times_of(self, op: OpRecord) -> tuple[float, float]:
        """Return the seconds of dispatch and autograd before an operator, and its own."""
        work = self.works[op.index]
        calibration, caches = self._calibration, self._calibration.caches
        overhead = self._overhead(op, calibration.overheads) * _MICROSECOND
        distance = self._last_uses.code(op.name)
        read, made = self._last_uses.data(op)
        if work is None:
            return overhead + caches.code_seconds(VIEW, distance), 0.0
        if work not in self._known:
            self._known[work] = op_seconds(work, calibration)
        pages = self._faulted.get(op.index, 0) / PAGE
        seconds = self._known[work] + pages * calibration.overheads.page_us * _MICROSECOND
        if _FIRST not in work.surface:
            kind = LIKE.get(work.kind, work.kind)
            overhead += caches.code_seconds(kind, distance, self._traffic[op.index])
            for curve, parts in ((caches.read, read), (caches.written, made)):
                for nbytes, since in parts:
                    seconds += caches.seconds(curve, nbytes, since, _TIMED_WITHIN)
        return overhead, seconds

    def _overhead(self, op: OpRecord, c: Overheads) -> float:
        """Return the microseconds of Python, dispatch and autograd before an operator."""
        is_view = self.works[op.index] is None
        if op.phase is Phase.BACKWARD:
            return c.view_us if is_view else c.backward_us
        noted = self._is_training and op.phase in (Phase.FORWARD, Phase.LOSS)
        return (c.view_us if is_view else c.op_us) + (c.gradient_us if noted else 0.0)
