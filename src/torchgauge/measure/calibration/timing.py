"""Time the cases: all of them several times, in an order by chance."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import torch

from torchgauge.estimate.time.cpu.work import CpuWork, work_of
from torchgauge.facts.trace import OpRecord, Phase
from torchgauge.measure.calibration.case import Case, Memory
from torchgauge.measure.settled import page_faults
from torchgauge.trace.inspect.describe import SpecTable, argument, tensors_in
from torchgauge.trace.operators.op_facts import facts_of
from torchgauge.trace.shapes.layouts import layout_of

ROUNDS: Final = 4
"""A machine's speed drifts within seconds; a case is timed at that many moments."""
_FEWEST, _MOST = 2, 20
_ASIDE: Final = 3
"""Runs after the first that do not count: the allocator still gives out memory that was used for
something else, and code comes into the caches. The second run takes 1.2 to 1.4 times as long as the
fifth, the fourth 1.05 times."""
_FEW_FAULTS: Final = 16
"""64 KiB: of any process, now and then."""
_MOST_FAULTED: Final = 8
"""Runs; by then the memory is in use, or is given back to the system each time."""
_LONG: Final = 0.001
"""Seconds of a run that stands for two of those aside."""
_SECONDS: Final = 0.002
"""Of each case in each round, unless the fewest runs take longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A measured time."""

    work: CpuWork
    seconds: float


def timed(cases: Sequence[Case], on_progress: Callable[[str], None]) -> list[Sample]:
    """Return the median time of each case; of one that faults pages in each time there is none."""
    memory = Memory()
    order = list(range(len(cases))) * ROUNDS
    random.Random(0).shuffle(order)
    found: list[list[float]] = [[] for _ in cases]
    for done, index in enumerate(order):
        if done % 50 == 0:
            on_progress(f"timing operators, {done} of {len(order)}")
        found[index] += runs(cases[index], memory)
    samples = []
    for case, seconds in zip(cases, found, strict=True):
        work = work_of(recorded(case, memory), torch.get_num_threads())
        if work is not None and seconds:
            samples.append(Sample(work=work, seconds=median(seconds)))
    return samples


def runs(case: Case, memory: Memory) -> list[float]:
    """Return the seconds of each run, the first few aside.

    A run whose results came to lie in pages that the process had not touched before takes up to ten
    times as long. In a step that happens to large blocks only, which predictions count by
    themselves: such runs are left out.
    """
    clock, op, named = time.perf_counter, case.op, case.named
    seconds: list[float] = []
    faulted = 0
    with torch.no_grad():
        op(*memory.arguments(case), **named)
        spent = 0.0
        aside = _ASIDE
        given: list[Any] = []
        made: list[Any] = []
        while len(seconds) < _FEWEST or (spent < _SECONDS and len(seconds) < _MOST):
            given.clear()  # and then the allocator gives out again what was used last
            made.clear()
            given = memory.arguments(case)
            if case.begins_step:
                memory.evict()
            faults, start = page_faults(), clock()
            made.append(op(*given, **named))
            took = clock() - start
            if aside > 0:
                aside -= 2 if took > _LONG else 1
                continue
            spent += took
            if page_faults() - faults <= _FEW_FAULTS:
                seconds.append(took)
                continue
            faulted += 1
            if faulted >= _MOST_FAULTED:
                break
    return seconds


def recorded(case: Case, memory: Memory) -> OpRecord:
    """Return the case as a trace records it."""
    specs = SpecTable("cpu")
    given = memory.arguments(case)
    with torch.no_grad():
        results = list(tensors_in(case.op(*given, **case.named)))
    reads = facts_of(case.op).reads_layouts
    layouts = tuple(layout_of(tensor) for tensor in tensors_in(given)) if reads else ()
    return OpRecord(
        index=0,
        name=str(case.op),
        args=tuple(argument(value, specs) for value in given),
        kwargs=tuple((name, argument(value, specs)) for name, value in case.named.items()),
        outputs=tuple(specs.of(tensor) for tensor in results),
        call=-1,
        phase=Phase.FORWARD,
        layouts=layouts,
    )
