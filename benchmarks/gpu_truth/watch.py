"""Watch ops one by one: the recorder with a gauge around every op, marks for the profiler."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.gpu_truth.gauge import Gauge
from benchmarks.gpu_truth.schema import OpMeasure
from torchgauge.facts.trace import OpRecord
from torchgauge.trace.inspect.tree import has_forward, walk
from torchgauge.trace.operators.op_facts import facts_of
from torchgauge.trace.record.recorder import Recorder
from torchgauge.trace.torch_internals.modes import DispatchMode

_MARK = "torchgauge-op::"
_Time = tuple[float, list[tuple[str, float]]]


class Watcher(Recorder):
    """The recorder of real runs, with memory figures per op."""

    def __init__(self, gauge: Gauge) -> None:
        super().__init__(device=gauge.name, simulation=None)
        self.gauge = gauge
        self.memory: dict[int, tuple[int | None, int | None]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operator between two readings of the gauge."""
        index = len(self._ops)
        before = self.gauge.before_op()
        with record_function(f"{_MARK}{index}"):
            output = super().__torch_dispatch__(func, types, args, kwargs)
        if len(self._ops) == index + 1 and index not in self.memory:
            self.memory[index] = self.gauge.after_op(before)
        return output


@contextmanager
def watched(root: nn.Module, watcher: Watcher) -> Iterator[None]:
    """Note the module calls of a real model while the context is open."""
    before = {id(module): module.__dict__.get("forward") for module in root.modules()}
    for path, module, shared_with in walk(root):
        if shared_with is None and has_forward(module):
            module.__dict__["forward"] = watcher.wrap_forward(
                path, module.forward, type(module).forward
            )
    try:
        yield
    finally:
        for module in root.modules():
            original = before[id(module)]
            if original is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = original


class Marker(DispatchMode):
    """Give every op a mark that the profiler sees, numbered as the recorder numbers them."""

    def __init__(self, run: int) -> None:
        super().__init__()
        self.run = run
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operator inside its mark."""
        kwargs = kwargs or {}
        facts = facts_of(func)
        if facts.is_composite:
            with self:
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        if facts.is_marker:
            return func(*args, **kwargs)
        index = len(self.names)
        self.names.append(facts.name)
        with record_function(f"{_MARK}{self.run}:{index}"):
            return func(*args, **kwargs)


@contextmanager
def memory_events(gauge: Gauge, memory: dict[int, tuple[int | None, int | None]]) -> Iterator[None]:
    """Fill in what each op did to memory on a CPU, from the profiler's memory events."""
    if gauge.has_allocator:
        yield
        return
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        yield
    # profiler.kineto_results: 2.6–2.13; events have start_ns since 2.4.
    results: Any = found.profiler
    events = list(results.kineto_results.events())
    memory.update(_memory_by_mark(events))


def _memory_by_mark(events: list[Any]) -> dict[int, tuple[int, int]]:
    """Return ``(allocated, transient)`` per op from the changes that lie inside its mark."""
    spans = sorted(
        (e.start_ns(), e.start_ns() + e.duration_ns(), int(e.name().removeprefix(_MARK)))
        for e in events
        if e.name().startswith(_MARK)
    )
    starts = [span[0] for span in spans]
    current: dict[int, int] = {span[2]: 0 for span in spans}
    highest = dict(current)
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    for when, nbytes in changes:
        position = bisect_right(starts, when) - 1
        if position < 0 or when > spans[position][1]:
            continue  # between ops: Python let go of a tensor
        index = spans[position][2]
        current[index] += nbytes
        highest[index] = max(highest[index], current[index])
    return {index: (net, highest[index] - max(0, net)) for index, net in current.items()}


def timed_ops(
    gauge: Gauge, step: Callable[[], None], ops: Sequence[OpRecord], repeats: int
) -> tuple[list[tuple[float | None, tuple[tuple[str, float], ...]]], str]:
    """Return time and kernels of each op from warm runs of a step, and a note if there is one.

    The first step may have ops that later ones do not (an optimizer makes its state): they get
    ``None``.
    """
    activities = [ProfilerActivity.CPU]
    if gauge.name == "cuda":
        activities.append(ProfilerActivity.CUDA)
    markers = [Marker(run) for run in range(repeats)]
    with profile(activities=activities) as found:
        for marker in markers:
            with marker:
                step()
            gauge.synchronize()
    names = markers[0].names
    if any(marker.names != names for marker in markers):
        return [(None, ())] * len(ops), "op times: the warm steps differ from each other"
    runs = _times_by_mark(found.events(), repeats, on_gpu=gauge.name == "cuda")
    answer: list[tuple[float | None, tuple[tuple[str, float], ...]]] = []
    position = 0
    for op in ops:
        if position < len(names) and names[position] in (op.name, _UNDER_A_MODE.get(op.name)):
            answer.append(_median_of([run.get(position) for run in runs]))
            position += 1
        else:
            answer.append((None, ()))
    note = "" if position == len(names) else "op times: the warm step has ops of its own"
    return answer, note


_UNDER_A_MODE = {"aten.add_.Tensor": "aten.add.Tensor"}
"""What an operator is while a mode watches: autograd's engine then sums no gradient in place."""


def _times_by_mark(events: Any, repeats: int, *, on_gpu: bool) -> list[dict[int, _Time]]:
    """Return time and kernels of each op in each run."""
    runs: list[dict[int, _Time]] = [{} for _ in range(repeats)]
    for event in events:
        if event.device_type != DeviceType.CPU:
            continue
        if event.name.startswith(_MARK) and not on_gpu:
            run, index = _place(event.name)
            runs[run][index] = (event.cpu_time_total, [])
        if on_gpu and event.kernels:
            owner = event
            while owner is not None and not owner.name.startswith(_MARK):
                owner = owner.cpu_parent
            if owner is not None:
                run, index = _place(owner.name)
                total, kernels = runs[run].setdefault(index, (0.0, []))
                fresh = [(k.name, float(k.duration)) for k in event.kernels]
                runs[run][index] = (total + sum(us for _, us in fresh), kernels + fresh)
    return runs


def _place(mark: str) -> tuple[int, int]:
    run, _, index = mark.removeprefix(_MARK).partition(":")
    return int(run), int(index)


def _median_of(
    runs: list[_Time | None],
) -> tuple[float | None, tuple[tuple[str, float], ...]]:
    known = [run for run in runs if run is not None]
    if not known:
        return None, ()
    total = statistics.median(run[0] for run in known)
    lists = [run[1] for run in known]
    if any([k[0] for k in kernels] != [k[0] for k in lists[0]] for kernels in lists):
        return round(total, 3), tuple(lists[0])
    kernels = tuple(
        (name, statistics.median(kernels[i][1] for kernels in lists))
        for i, (name, _) in enumerate(lists[0])
    )
    return round(total, 3), kernels


def measures_of(
    memory: dict[int, tuple[int | None, int | None]], times: Sequence[Any], count: int
) -> tuple[OpMeasure, ...]:
    """Lay memory and time of each op together."""
    measures = []
    for index in range(count):
        allocated, transient = memory.get(index, (None, None))
        time_us, kernels = times[index] if index < len(times) else (None, ())
        measures.append(
            OpMeasure(
                allocated_bytes=allocated,
                transient_bytes=transient,
                time_us=time_us,
                kernels=tuple(kernels),
            )
        )
    return tuple(measures)
