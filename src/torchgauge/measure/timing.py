"""Time a step without any instrument: a clock is read between phases, nothing else is added."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from torchgauge.facts.time import Interval, Measurement
from torchgauge.facts.trace import Phase
from torchgauge.measure.statistics import (
    enough_for,
    interval_of,
    interval_ranks,
    is_settled,
)
from torchgauge.measure.step import RealStep

TOLERANCE = 0.01
"""Repeating stops when the interval of the whole step is within this share of its median."""
_WARM_UP_STEPS = 3
_WARM_UP_SHARE = 0.25
"""Share of the time allowed after which warming up ends with fewer steps."""
_MOST_REPETITIONS = 10_000


@dataclass(slots=True)
class Samples:
    """Milliseconds of each repetition: of the whole step, and of its phases."""

    total: list[float] = field(default_factory=list)
    phases: dict[Phase, list[float]] = field(default_factory=dict)
    warm_up: int = 0

    def add(self, total: float, phases: Mapping[Phase, float]) -> None:
        """Note one repetition."""
        self.total.append(total)
        for phase, milliseconds in phases.items():
            self.phases.setdefault(phase, []).append(milliseconds)

    def medians(self) -> dict[Phase, float]:
        """Return the median of each phase that ran."""
        return {phase: median(values) for phase, values in self.phases.items()}


class HostClock:
    """The process's own clock, for work that is done when its call returns."""

    def start(self) -> None:
        """Begin a step."""
        self._marks: list[tuple[Phase, Any]] = []
        self._begin = time.perf_counter()

    def note(self, phase: Phase) -> None:
        """Note that a phase has ended."""
        self._marks.append((phase, time.perf_counter()))

    def stop(self) -> tuple[float, dict[Phase, float]]:
        """Return the milliseconds of the whole step and of each phase."""
        end = time.perf_counter()
        phases: dict[Phase, float] = {}
        before = self._begin
        for phase, moment in self._marks:
            phases[phase] = phases.get(phase, 0.0) + 1000.0 * (moment - before)
            before = moment
        return 1000.0 * (end - self._begin), phases


class CudaClock(HostClock):
    """The host's clock for the whole step, the GPU's own events between phases.

    The GPU runs behind the host; waiting for it between phases would lengthen the step.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self) -> None:
        """Begin a step, with nothing waiting on the GPU."""
        torch.cuda.synchronize(self._device)
        self._first = self._event()
        super().start()

    def note(self, phase: Phase) -> None:
        """Note that a phase has been handed over."""
        self._marks.append((phase, self._event()))

    def stop(self) -> tuple[float, dict[Phase, float]]:
        """Wait for the GPU and return the milliseconds of the whole step and of each phase."""
        torch.cuda.synchronize(self._device)
        total = 1000.0 * (time.perf_counter() - self._begin)
        phases: dict[Phase, float] = {}
        before = self._first
        for phase, event in self._marks:
            phases[phase] = phases.get(phase, 0.0) + before.elapsed_time(event)
            before = event
        return total, phases

    def _event(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


def repeat(
    step: RealStep,
    *,
    min_repetitions: int,
    max_seconds: float,
    confidence: float,
    progress: Callable[[str], None],
) -> Samples:
    """Warm up, then repeat the step until its median is known well enough or time is up.

    ``min_repetitions`` are always made, whatever they take.
    """
    clock = CudaClock(step.device) if step.device.type == "cuda" else HostClock()
    samples = Samples()
    begin = time.perf_counter()
    while samples.warm_up < _WARM_UP_STEPS:
        progress(f"warming up, step {samples.warm_up + 1}")
        clock.start()
        step.run(clock.note)
        clock.stop()
        samples.warm_up += 1
        if time.perf_counter() - begin > _WARM_UP_SHARE * max_seconds:
            break
    while True:
        count = len(samples.total)
        if count >= min_repetitions and (
            time.perf_counter() - begin > max_seconds
            or is_settled(samples.total, confidence, TOLERANCE)
            or count >= _MOST_REPETITIONS
        ):
            return samples
        if count in (0, 1) or count % 10 == 0 or samples.total[-1] > 100.0:
            done = f", median {median(samples.total):.3g} ms" if count else ""
            progress(f"repetition {count + 1}{done}")
        clock.start()
        step.run(clock.note)
        samples.add(*clock.stop())


def measurement(samples: Samples, device: str, confidence: float) -> Measurement:
    """Return how the samples were taken and how they spread."""
    intervals: dict[str, Interval] = {"total": interval_of(samples.total, confidence)}
    for phase, values in samples.phases.items():
        intervals[str(phase)] = interval_of(values, confidence)
    _, _, coverage = interval_ranks(len(samples.total), confidence)
    # With too few repetitions the extremes are the interval, and it holds the median less surely.
    reached = confidence if len(samples.total) >= enough_for(confidence) else round(coverage, 4)
    return Measurement(
        device=device,
        repetitions=len(samples.total),
        warm_up=samples.warm_up,
        confidence=reached,
        intervals=intervals,
    )
