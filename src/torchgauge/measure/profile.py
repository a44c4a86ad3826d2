"""One profiled step: its events, given to module calls and operators."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from torchgauge.facts.trace import Phase
from torchgauge.measure.marks import MARK, NODE, OUTSIDE, CallMarks, mark, profiled
from torchgauge.measure.step import RealStep


class OperatorPath:
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
        return recorded_name(name)


@dataclass(slots=True)
class Shares:
    """Milliseconds as profiled, of one step or of all: to be used as shares only."""

    phases: defaultdict[Phase, float] = field(default_factory=lambda: defaultdict(float))
    calls: defaultdict[tuple[str, int, Phase], float] = field(
        default_factory=lambda: defaultdict(float)
    )
    """Self time by module path, number of its call, and phase."""
    ops: dict[tuple[str, Phase, tuple[str, ...]], OperatorPath] = field(default_factory=dict)
    """By operator, phase, and the names of everything that it called."""
    steps: int = 0


@dataclass(slots=True, eq=False)
class Event:
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
        """Return its time without that of the events inside."""
        return max(0.0, self.end - self.start - self.inner)

    @property
    def on_gpu(self) -> float:
        """Return the time of its kernels."""
        return sum(milliseconds for _, milliseconds in self.kernels)


def events_of(step: RealStep, marks: CallMarks) -> list[Event]:
    """Return the events of one step, with marks where its phases begin and end.

    Starting the profiler lets threads fall asleep and caches go cold; a step before the one that
    counts takes that on itself, or the first layers would.
    """
    with profiled(step) as profiler:
        step.run(ignore)
        marks.clear()
        mark("begin")
        step.run(mark)
    return [
        Event(
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


def _is_phase_end(event: Event) -> bool:
    return event.name.startswith(MARK) and not event.name[len(MARK) :].isdigit()


class Reading:
    """The events of one step, nested by time."""

    def __init__(
        self, events: list[Event], marks: CallMarks, recorded: set[str], *, on_gpu: bool
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
        cause = OUTSIDE
        stack: list[tuple[Event, int, _Op | None]] = []
        done: list[tuple[Event, int, _Op | None]] = []
        ops: list[_Op] = []
        for event in self._events:
            while stack and stack[-1][0].end <= event.start:
                stack.pop()
            owner, op = (stack[-1][1], stack[-1][2]) if stack else (OUTSIDE, None)
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
                op.parts.extend(event.kernels if self._on_gpu else [(event.name, event.own)])
        for shares in all_shares:
            self._sum_up(done, ops, shares)

    def _sum_up(
        self,
        done: Iterable[tuple[Event, int, _Op | None]],
        ops: Iterable[_Op],
        shares: Shares,
    ) -> None:
        for event, owner, _ in done:
            phase = self._phase_of(event.start)
            spent = event.on_gpu if self._on_gpu else event.own
            if self._on_gpu:
                shares.phases[phase] += spent
            if owner != OUTSIDE:
                shares.calls[(*self._keys[owner], phase)] += spent
        if not self._on_gpu:
            before = self._begin
            for phase, start, end in self._ends:
                shares.phases[phase] += start - before
                before = end
        for op in ops:
            key = op.name, op.phase, tuple(name for name, _ in op.parts)
            shares.ops.setdefault(key, OperatorPath()).add(op.parts)

    def _phase_of(self, moment: float) -> Phase:
        index = bisect_right(self._moments, moment)
        return self._ends[min(index, len(self._ends) - 1)][0]


@dataclass(slots=True, eq=False)
class _Op:
    """One run of a recorded operator."""

    name: str
    phase: Phase
    parts: list[tuple[str, float]] = field(default_factory=list)
    """What it and everything that it called spent their time in, in order."""


def recorded_name(profiled: str) -> str:
    """Return an operator's name as reports write it.

    >>> recorded_name("aten::mkldnn_convolution")
    'aten.mkldnn_convolution'
    """
    return profiled.replace("::", ".", 1) if profiled.count("::") == 1 else profiled


def ignore(phase: Phase) -> None:
    """Note nothing."""
