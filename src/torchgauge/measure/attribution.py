"""Whose time it was: a profiled step, its events given to module calls and operators.

The profiler and the wrappers around modules cost time themselves, so only shares are taken from
here. They are scaled, phase by phase, to the medians of the undisturbed step.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from torchgauge.facts.time import OpTime
from torchgauge.facts.trace import Phase, Trace
from torchgauge.measure.step import RealStep
from torchgauge.trace.record.kernel_memory import quiet_profiler
from torchgauge.trace.torch_internals.autograd import next_sequence_nr
from torchgauge.trace.torch_internals.profiler import profiler_range

MARK = "torchgauge:"
NODE = "autograd::engine::evaluate_function: "
_OUTSIDE = -1


class CallMarks:
    """Wraps the forwards of a copy so that the profiler sees each module call as an event."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._stack: list[int] = []
        self._boundaries = [0]
        self._boundary_calls = [_OUTSIDE]

    def wrap(self, path: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        """Return a forward that marks each call of ``inner``."""

        def forward(*args: Any, **kwargs: Any) -> Any:
            index = len(self.paths)
            self.paths.append(path)
            self._enter(index)
            try:
                with profiler_range(f"{MARK}{index}"):
                    return inner(*args, **kwargs)
            finally:
                self._leave()

        forward.__wrapped__ = inner  # type: ignore[attr-defined]  # signatures follow it
        return forward

    def clear(self) -> None:
        """Forget the calls of the step before."""
        self.paths.clear()
        self._stack.clear()
        self._boundaries[:] = [0]
        self._boundary_calls[:] = [_OUTSIDE]

    def call_of_node(self, sequence_nr: int) -> int:
        """Return the call in whose forward a backward node was made."""
        return self._boundary_calls[bisect_right(self._boundaries, sequence_nr) - 1]

    def _enter(self, index: int) -> None:
        self._stack.append(index)
        self._boundaries.append(next_sequence_nr())
        self._boundary_calls.append(index)

    def _leave(self) -> None:
        self._stack.pop()
        self._boundaries.append(next_sequence_nr())
        self._boundary_calls.append(self._stack[-1] if self._stack else _OUTSIDE)


class _Path:
    """All runs of an operator that called the same others in the same order.

    Which of them is the kernel is decided once for all runs: a single run may be disturbed.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.spent = 0.0
        self._parts: defaultdict[str, float] = defaultdict(float)

    def add(self, parts: Iterable[tuple[str, float]]) -> None:
        """Add one run."""
        self.calls += 1
        for name, milliseconds in parts:
            self.spent += milliseconds
            self._parts[name] += milliseconds

    def kernel(self, otherwise: str) -> str:
        """Return what most of the time was spent in."""
        name = max(self._parts, key=self._parts.__getitem__, default=otherwise)
        return _recorded_name(name)


@dataclass(slots=True)
class Shares:
    """Milliseconds as profiled, of one step or of all: to be used as shares only."""

    phases: defaultdict[Phase, float] = field(default_factory=lambda: defaultdict(float))
    calls: defaultdict[tuple[str, int, Phase], float] = field(
        default_factory=lambda: defaultdict(float)
    )
    """Self time by module path, number of its call, and phase."""
    ops: dict[tuple[str, Phase, tuple[str, ...]], _Path] = field(default_factory=dict)
    """By operator, phase, and the names of everything that it called."""
    steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The step's time, given away: parts and remainder sum to its median."""

    calls: Mapping[tuple[str, int], tuple[float, float]]
    """Self time in milliseconds, forward and backward, by path and number of the call."""
    outside_ms: float
    ops: tuple[OpTime, ...]
    between_ops_ms: float


def profile_steps(
    step: RealStep, marks: CallMarks, trace: Trace, steps: int, progress: Callable[[str], None]
) -> Shares:
    """Run steps under the profiler; ``step`` was built with ``marks.wrap``."""
    recorded = {_profiled_name(op.name) for op in trace.ops}
    step.run(_ignore)  # the optimizer makes its states
    shares, single = Shares(), []
    for number in range(steps):
        progress(f"profiling, step {number + 1} of {steps}")
        events = _profiled(step, marks)
        reading = _Reading(events, marks, recorded, on_gpu=step.device.type == "cuda")
        single.append(Shares())
        reading.add_to(shares, single[-1])
        shares.steps += 1
    shares.calls = _typical(single, shares.phases)
    return shares


def _typical(
    steps: Sequence[Shares], phases: Mapping[Phase, float]
) -> defaultdict[tuple[str, int, Phase], float]:
    """Return what each call takes of its phase in the median of the steps.

    A single step may be disturbed in any of its layers. Together they never take more than the
    phases, whose milliseconds over all steps are given.
    """
    keys = dict.fromkeys(key for step in steps for key in step.calls)
    shares = {
        key: median(
            step.calls.get(key, 0.0) / step.phases[key[2]] if step.phases[key[2]] else 0.0
            for step in steps
        )
        for key in keys
    }
    sums: defaultdict[Phase, float] = defaultdict(float)
    for (_, _, phase), share in shares.items():
        sums[phase] += share
    found: defaultdict[tuple[str, int, Phase], float] = defaultdict(float)
    for key, share in shares.items():
        found[key] = share * phases[key[2]] / max(1.0, sums[key[2]])
    return found


def attribute(shares: Shares, medians: Mapping[Phase, float], total: float) -> Attribution:
    """Scale shares to the medians of the phases, and these to the median of the whole step."""
    whole = sum(medians.values())
    scale = {
        phase: (medians.get(phase, 0.0) / profiled) * (total / whole) if profiled and whole else 0.0
        for phase, profiled in shares.phases.items()
    }
    calls: defaultdict[tuple[str, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for (path, number, phase), spent in shares.calls.items():
        calls[path, number][phase is Phase.BACKWARD] += spent * scale[phase]
    ops = _op_times(shares, scale)
    inside = sum(map(sum, calls.values()))
    return Attribution(
        calls={key: (forward, backward) for key, (forward, backward) in calls.items()},
        outside_ms=max(0.0, total - inside),
        ops=tuple(ops),
        between_ops_ms=max(0.0, total - sum(op.time_ms for op in ops)),
    )


def _op_times(shares: Shares, scale: Mapping[Phase, float]) -> list[OpTime]:
    """Return one entry per operator, kernel and phase, the slowest first."""
    spent: defaultdict[tuple[str, str, Phase], float] = defaultdict(float)
    calls: Counter[tuple[str, str, Phase]] = Counter()
    for (name, phase, _), path in shares.ops.items():
        key = _recorded_name(name), path.kernel(name), phase
        spent[key] += path.spent * scale[phase]
        calls[key] += path.calls
    ops = [
        OpTime(
            name=name,
            kernel=kernel,
            phase=phase,
            calls=max(1, round(calls[name, kernel, phase] / shares.steps)),
            time_ms=milliseconds,
        )
        for (name, kernel, phase), milliseconds in spent.items()
    ]
    return sorted(ops, key=lambda op: (-op.time_ms, op.name))


# ---------------------------------------------------------------------------- one profiled step


def _is_phase_end(event: _Event) -> bool:
    return event.name.startswith(MARK) and not event.name[len(MARK) :].isdigit()


@dataclass(slots=True, eq=False)
class _Event:
    """Something that the host did, in milliseconds."""

    name: str
    start: float
    end: float
    sequence_nr: int
    thread: int
    kernels: tuple[tuple[str, float], ...]
    """What it launched on the GPU."""
    inner: float = 0.0
    """Time of the events directly inside."""

    @property
    def own(self) -> float:
        return max(0.0, self.end - self.start - self.inner)

    @property
    def on_gpu(self) -> float:
        return sum(milliseconds for _, milliseconds in self.kernels)


def _profiled(step: RealStep, marks: CallMarks) -> list[_Event]:
    """Return the events of one step, with marks where its phases begin and end.

    Starting the profiler lets threads fall asleep and caches go cold; a step before the one that
    counts takes that on itself, or the first layers would.
    """
    activities = [ProfilerActivity.CPU]
    if step.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with quiet_profiler(), profile(activities=activities) as profiler:
        step.run(_ignore)
        marks.clear()
        mark("begin")
        step.run(mark)
        if step.device.type == "cuda":
            torch.cuda.synchronize(step.device)
    return [
        _Event(
            name=event.name,
            start=event.time_range.start / 1000.0,
            end=event.time_range.end / 1000.0,
            sequence_nr=event.sequence_nr,
            thread=event.thread,
            kernels=tuple((kernel.name, kernel.duration / 1000.0) for kernel in event.kernels),
        )
        for event in profiler.events() or ()
        if event.device_type.name == "CPU"
    ]


def mark(name: str) -> None:
    """Leave an empty event: a phase lasts from the end of the one before it."""
    with profiler_range(f"{MARK}{name}"):
        pass


class _Reading:
    """The events of one step, nested by time."""

    def __init__(
        self, events: list[_Event], marks: CallMarks, recorded: set[str], *, on_gpu: bool
    ) -> None:
        self._marks = marks
        self._recorded = recorded
        self._on_gpu = on_gpu
        ends = [event for event in events if _is_phase_end(event)]
        ends.sort(key=lambda event: event.start)
        self._begin = ends[0].end
        self._ends = [
            (Phase(event.name.removeprefix(MARK)), event.start, event.end) for event in ends[1:]
        ]
        self._moments = [start for _, start, _ in self._ends]
        # Workers of a parallel kernel have events of their own, within the time of their caller.
        threads = {event.thread for event in events if event.name.startswith((MARK, NODE))}
        self._events = sorted(
            (
                event
                for event in events
                if event.thread in threads
                and self._begin <= event.start <= self._moments[-1]
                and not _is_phase_end(event)
            ),
            key=lambda event: (event.start, -event.end),
        )
        numbers: Counter[str] = Counter()
        self._keys: list[tuple[str, int]] = []
        for path in marks.paths:
            self._keys.append((path, numbers[path]))
            numbers[path] += 1

    def add_to(self, *all_shares: Shares) -> None:
        """Add this step's milliseconds."""
        cause = _OUTSIDE
        stack: list[tuple[_Event, int, _Op | None]] = []
        done: list[tuple[_Event, int, _Op | None]] = []
        ops: list[_Op] = []
        for event in self._events:
            while stack and stack[-1][0].end <= event.start:
                stack.pop()
            owner, op = (stack[-1][1], stack[-1][2]) if stack else (_OUTSIDE, None)
            if stack:
                event.end = min(event.end, stack[-1][0].end)
                stack[-1][0].inner += event.end - event.start
            if event.name.startswith(MARK):
                owner = int(event.name[len(MARK) :])
            elif event.name.startswith(NODE):
                # A leaf's gradient is accumulated right after the node that computed it.
                if event.sequence_nr >= 0:
                    cause = self._marks.call_of_node(event.sequence_nr)
                owner = cause
            elif op is None and event.name in self._recorded:
                op = _Op(event.name, self._phase_of(event.start))
                ops.append(op)
            entry = (event, owner, op)
            stack.append(entry)
            done.append(entry)
        for event, _, op in done:
            if op is not None:
                op.add(event, on_gpu=self._on_gpu)
        for shares in all_shares:
            self._sum_up(done, ops, shares)

    def _sum_up(
        self,
        done: Iterable[tuple[_Event, int, _Op | None]],
        ops: Iterable[_Op],
        shares: Shares,
    ) -> None:
        for event, owner, _ in done:
            phase = self._phase_of(event.start)
            spent = event.on_gpu if self._on_gpu else event.own
            if self._on_gpu:
                shares.phases[phase] += spent
            if owner != _OUTSIDE:
                shares.calls[(*self._keys[owner], phase)] += spent
        if not self._on_gpu:
            before = self._begin
            for phase, start, end in self._ends:
                shares.phases[phase] += start - before
                before = end
        for op in ops:
            key = op.name, op.phase, tuple(name for name, _ in op.parts)
            shares.ops.setdefault(key, _Path()).add(op.parts)

    def _phase_of(self, moment: float) -> Phase:
        index = bisect_right(self._moments, moment)
        return self._ends[min(index, len(self._ends) - 1)][0]


class _Op:
    """One run of a recorded operator, with everything that it called."""

    def __init__(self, name: str, phase: Phase) -> None:
        self.name = name
        self.phase = phase
        self.parts: list[tuple[str, float]] = []
        """What it spent its time in, in order."""

    def add(self, event: _Event, *, on_gpu: bool) -> None:
        """Add the time of the operator itself or of something that it called."""
        if on_gpu:
            self.parts.extend(event.kernels)
        else:
            self.parts.append((event.name, event.own))


def _profiled_name(recorded: str) -> str:
    """Return what the profiler calls an operator.

    >>> _profiled_name("aten.convolution.default")
    'aten::convolution'
    """
    namespace, _, rest = recorded.partition(".")
    return f"{namespace}::{rest.partition('.')[0]}"


def _recorded_name(profiled: str) -> str:
    """Return an operator's name as reports write it.

    >>> _recorded_name("aten::mkldnn_convolution")
    'aten.mkldnn_convolution'
    """
    return profiled.replace("::", ".", 1) if profiled.count("::") == 1 else profiled


def _ignore(phase: Phase) -> None:
    """Note nothing."""
