"""Record one case: several passes over the same model, each from the same state.

1. memory: two plain steps, the allocator's statistics per phase and its history
2. ops: the first step again under the recorder, memory read around every op
3. time: warm bare steps by the clock, then warm steps under the profiler, op by op
4. cap: the steps again under smaller and smaller caps
"""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import asdict, replace

import torch

from benchmarks.gpu_truth.cases import Case
from benchmarks.gpu_truth.gauge import Gauge
from benchmarks.gpu_truth.micro import record_points
from benchmarks.gpu_truth.schema import (
    AllocatorHistory,
    CapSearch,
    Environment,
    PhaseMemory,
    PhaseTime,
    Record,
    Status,
)
from benchmarks.gpu_truth.step import Step, flags
from benchmarks.gpu_truth.watch import Watcher, measures_of, memory_events, timed_ops, watched
from benchmarks.gpu_truth.zoo import Unavailable
from torchgauge.errors import TorchGaugeError
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Execution, Phase, Role, Trace
from torchgauge.trace.inspect.describe import tensors_in
from torchgauge.trace.inspect.tree import module_infos

STEPS = 2
"""Plain steps of the memory pass: the first makes optimizer states, the second finds them."""
CLOCKED, PROFILED = 5, 3
_MESSAGE = 500


def record_case(case: Case, gauge: Gauge, environment: Environment, seconds_left: float) -> Record:
    """Record a case; whatever it raises is part of the record."""
    started = time.monotonic()
    gauge.clean()
    try:
        with flags(case.precision, case.sdpa):
            record = _micro(case, gauge, environment) if case.kind == "micro" else _model(
                case, gauge, environment, started + seconds_left
            )  # fmt: skip
    except Exception as error:
        record = Record(
            case=asdict(case), status=_status(error), environment=environment, message=_text(error)
        )
    gauge.clean()
    taken = round(time.monotonic() - started, 2)
    return replace(record, seconds=taken)


def _micro(case: Case, gauge: Gauge, environment: Environment) -> Record:
    points = record_points(case, gauge, _status, _text)
    worked = any(point.status is Status.OK for point in points)
    return Record(
        case=asdict(case),
        status=Status.OK if worked else points[0].status,
        message="" if worked else points[0].message,
        environment=environment,
        points=points,
    )


def _model(case: Case, gauge: Gauge, environment: Environment, deadline: float) -> Record:
    gc.disable()  # cycles are collected at moments that differ; the collector runs between passes
    try:
        return _passes(case, gauge, environment, deadline)
    finally:
        gc.enable()


def _passes(case: Case, gauge: Gauge, environment: Environment, deadline: float) -> Record:
    step = Step(case, gauge.name)
    step.apply_checkpointing()
    notes: list[str] = []
    phases, history = _memory_pass(step, gauge)
    _fresh(step, gauge)
    trace, memory = _watch(step, gauge)
    if not gauge.has_allocator:  # tensors alone: of the first step, and of one that finds states
        phases = (*_phases_of(trace, 0), *_phases_of(_watch(step, gauge)[0], 1))
    times, clocked = [], ()
    if time.monotonic() < deadline:
        clocked = _clock_pass(step, gauge)
        times, note = timed_ops(gauge, lambda: _drop(step.run()), trace.ops, PROFILED)
        notes += [note] if note else []
    else:
        notes.append("no times and no cap: the time was up")
    _fresh(step, gauge)
    cap = None
    if gauge.has_allocator and time.monotonic() < deadline:
        cap = _cap_pass(step, gauge, phases)
    return Record(
        case=asdict(case), status=Status.OK, environment=environment, built_from=step.built_from,
        trace=trace, measures=measures_of(memory, times, len(trace.ops)), phases=phases,
        history=history, times=clocked, cap=cap, notes=tuple(notes),
    )  # fmt: skip


def _fresh(step: Step, gauge: Gauge) -> None:
    step.forget()
    gauge.clean()


def _memory_pass(
    step: Step, gauge: Gauge
) -> tuple[tuple[PhaseMemory, ...], AllocatorHistory | None]:
    gauge.clean()
    found = [gauge.phase_memory(0, "load")]
    gauge.start_history()
    for number in range(STEPS if gauge.has_allocator else 1):

        def end(phase: Phase, number: int = number) -> None:
            found.append(gauge.phase_memory(number, str(phase)))
            gauge.mark_history(number, str(phase))

        _drop(step.run(lambda _: gauge.reset_peaks(), end))
    history = gauge.stop_history()
    return tuple(phase for phase in found if phase is not None), history


def _watch(step: Step, gauge: Gauge) -> tuple[Trace, dict[int, tuple[int | None, int | None]]]:
    """Run a step under the recorder; what is there before it counts as existing."""
    watcher = Watcher(gauge)
    storages, root = watcher.storages, step.model
    for role, named in (
        (Role.PARAMETER, root.named_parameters()),
        (Role.BUFFER, root.named_buffers()),
        (Role.INPUT, ((str(i), t) for i, t in enumerate(tensors_in((step.args, step.kwargs))))),
        (Role.OPTIMIZER_STATE, step.states()),
    ):
        for name, tensor in named:
            storages.register(tensor, role, name)
    if step.optimizer is None:
        step.make_optimizer()
    step.model.zero_grad(set_to_none=True)
    phase_ends: list[tuple[Phase, int]] = []
    held = storages.alive()

    def start(phase: Phase) -> None:
        watcher.phase = phase

    def end(phase: Phase) -> None:
        phase_ends.append((phase, len(storages.events)))
        if phase is Phase.LOSS:
            for index in storages.alive() - held:
                storages.set_role(index, Role.SAVED_ACTIVATION)
        if phase is Phase.BACKWARD:
            for name, parameter in root.named_parameters():
                if parameter.grad is not None:
                    index = storages.index_of(parameter.grad, -1)
                    storages.set_role(index, Role.GRADIENT, name)
        if phase is Phase.OPTIMIZER:
            for name, tensor in step.states():
                storages.set_role(storages.index_of(tensor, -1), Role.OPTIMIZER_STATE, name)

    memory: dict[int, tuple[int | None, int | None]] = {}
    with watched(root, watcher), memory_events(gauge, memory), watcher:
        output = step.run(start, end)
    storages.stop()
    del output
    trace = Trace(
        torch_version=torch.__version__,
        execution=Execution.REAL,
        model_name=type(root).__name__,
        scenario=_scenario(step.case, gauge.name),
        modules=module_infos(root),
        calls=watcher.call_records(),
        ops=watcher.op_records(),
        storages=storages.records(watcher.op_name),
        events=storages.event_records(),
        phase_ends=tuple(phase_ends),
    )
    return trace, memory or watcher.memory


def _scenario(case: Case, device: str) -> Scenario:
    """Return the nearest scenario that the package knows; the case itself says what was run."""
    precision = case.precision if case.precision in ("tf32", "bf16") else "fp32"
    settings = {"mode": case.mode, "precision": precision, "optimizer": case.optimizer,
                "checkpointing": case.checkpointing}  # fmt: skip
    try:
        return Scenario(device=device, **settings)
    except TorchGaugeError:
        return Scenario(**settings)


def _phases_of(trace: Trace, step: int) -> tuple[PhaseMemory, ...]:
    """Return the bytes of live tensors per phase, for a device without statistics of its own."""
    sizes = [storage.nbytes for storage in trace.storages]
    ends = dict.fromkeys(trace.phase_ends)
    live = highest = 0
    found, position = [], 0
    for phase, end in ends:
        highest = live
        for event in trace.events[position:end]:
            live += -sizes[event.storage] if event.is_free else sizes[event.storage]
            highest = max(highest, live)
        position = end
        found.append(
            PhaseMemory(
                step=step, phase=str(phase), allocated_bytes=live, reserved_bytes=None,
                peak_allocated_bytes=highest, peak_reserved_bytes=None,
                peak_requested_bytes=None, device_bytes=None,
            )
        )  # fmt: skip
    return tuple(found)


def _clock_pass(step: Step, gauge: Gauge) -> tuple[PhaseTime, ...]:
    taken: dict[str, list[float]] = {}
    started = 0.0

    def start(_: Phase) -> None:
        nonlocal started
        gauge.synchronize()
        started = time.perf_counter()

    def end(phase: Phase) -> None:
        gauge.synchronize()
        taken.setdefault(str(phase), []).append((time.perf_counter() - started) * 1000)

    _drop(step.run())
    for _ in range(CLOCKED):
        _drop(step.run(start, end))
    return tuple(
        PhaseTime(
            phase=phase,
            median_ms=round(statistics.median(values), 4),
            lowest_ms=round(min(values), 4),
            highest_ms=round(max(values), 4),
            runs=len(values),
        )
        for phase, values in taken.items()
    )


def _cap_pass(step: Step, gauge: Gauge, phases: tuple[PhaseMemory, ...]) -> CapSearch | None:
    def run() -> None:
        try:
            for _ in range(STEPS):
                _drop(step.run())
        finally:
            step.forget()

    steps = [phase for phase in phases if phase.phase != "load"]
    low = max(phase.peak_allocated_bytes or 0 for phase in steps)
    high = max(phase.peak_reserved_bytes or 0 for phase in steps)
    return gauge.search_cap(run, low, high)


def _drop(result: object) -> None:
    """Let go of what a step returned, as a training loop does."""
    del result


_MISSING = (
    "not implemented for", "not supported", "no available kernel", "No available kernel",
    "Could not run", "not compiled", "No viable backend", "does not support",
    "unrecognized configuration", "not currently implemented",
)  # fmt: skip


def _status(error: BaseException) -> Status:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return Status.OUT_OF_MEMORY
    if isinstance(error, (Unavailable, NotImplementedError, ImportError)):
        return Status.UNSUPPORTED
    if isinstance(error, RuntimeError) and any(mark in str(error) for mark in _MISSING):
        return Status.UNSUPPORTED
    return Status.ERROR


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_MESSAGE]
