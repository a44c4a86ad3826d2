"""Predicted against really allocated peak of steps on the CPU, by the profiler's memory events.

One thread, as the report of a simulated run assumes: each further one adds partial sums of its own.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

import torchgauge as tg
from benchmarks.cpu_cases import CASES, SCENARIOS, dtypes_of
from torchgauge.request import Inputs
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.inspect.describe import tensors_in
from torchgauge.trace.step.training import compute_loss, make_optimizer
from torchgauge.trace.torch_internals.profiler import memory_changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One step: what was predicted, and what the allocator was asked for."""

    name: str
    scenario: str
    predicted_bytes: int
    real_bytes: int

    @property
    def error(self) -> float:
        """Return the relative error: positive where too much was predicted."""
        return (self.predicted_bytes - self.real_bytes) / self.real_bytes


class Step:
    """A model on the CPU with its inputs and optimizer, as a plain loop runs it."""

    def __init__(
        self,
        model: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        scenario: tg.Scenario,
    ) -> None:
        self._model = model.train(scenario.is_training)
        self._scenario = scenario
        self._args = args
        self._kwargs = kwargs
        self._optimizer = (
            make_optimizer(scenario.optimizer or "none", model.parameters())
            if scenario.is_training
            else None
        )

    @classmethod
    def of_size(cls, model: torch.nn.Module, size: Any, scenario: tg.Scenario) -> Step:
        """Return a step on inputs that are made from their sizes."""
        plan = plan_inputs(model, Inputs(size=size, dtypes=dtypes_of(size)))  # fmt: skip
        args = tuple(value.make("cpu") for value in plan.args)
        kwargs = {name: value.make("cpu") for name, value in plan.kwargs.items()}
        return cls(model, args, kwargs, scenario)

    def run(self) -> Any:
        """Run the step once and return what the loop still names at its end."""
        if not self._scenario.is_training:
            with torch.no_grad():
                return self._model(*self._args, **self._kwargs)
        output = self._model(*self._args, **self._kwargs)
        loss, _ = compute_loss(output, self._scenario.loss or "auto", None)
        loss.backward()
        if self._optimizer is not None:
            self._optimizer.step()
        return output, loss

    def reset(self) -> None:
        """Let go of the gradients."""
        self._model.zero_grad(set_to_none=True)
        for tensor in tensors_in((self._args, self._kwargs)):
            tensor.grad = None

    def kept_bytes(self) -> int:
        """Return the bytes alive between two steps: weights, inputs, the optimizer's states."""
        tensors = [*self._model.parameters(), *self._model.buffers()]
        tensors += tensors_in((self._args, self._kwargs))
        if self._optimizer is not None:
            for state in self._optimizer.state.values():
                tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(storages.values())


def real_peak(step: Step) -> int:
    """Return the most bytes alive in the second step: states are there, gradients are not."""
    return real_peaks([step])[0]


def real_peaks(steps: Sequence[Step]) -> list[int]:
    """Return the most bytes alive in the second run of each step, by one profile of all."""
    for step in steps:
        step.run()
        step.reset()
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            for index, step in enumerate(steps):
                with record_function(f"{_STEP} {index}"):
                    held = step.run()
                del held
                step.reset()
    finally:
        if was_enabled:
            gc.enable()
    events = profiler.profiler.kineto_results.events()
    spans = {e.name(): (e.start_ns(), e.end_ns()) for e in events if e.name().startswith(_STEP)}
    changes = memory_changes(profiler.profiler)
    peaks = []
    for index, step in enumerate(steps):
        start, end = spans[f"{_STEP} {index}"]
        inside = (nbytes for time, nbytes in changes if start <= time <= end)
        peaks.append(step.kept_bytes() + highest(inside))
    return peaks


_STEP = "measured step"


def allocations(profiler: Any) -> list[int]:
    """Return the bytes that were allocated (positive) and freed (negative), in order."""
    return [nbytes for _, nbytes in memory_changes(profiler.profiler)]


def highest(changes: Iterable[int]) -> int:
    """Return the highest running total."""
    total = peak = 0
    for change in changes:
        total += change
        peak = max(peak, total)
    return peak


@contextmanager
def one_thread() -> Iterator[None]:
    """Run kernels on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def figure(name: str, scenario: str) -> Figure:
    """Return the two peaks of a case."""
    build, size = CASES[name]
    model = build()
    report = tg.analyze(model, size, dtypes=dtypes_of(size), scenario=SCENARIOS[scenario])
    assert report.memory is not None
    with one_thread():
        real = real_peak(Step.of_size(model, size, SCENARIOS[scenario]))
    return Figure(
        name=name,
        scenario=scenario,
        predicted_bytes=report.memory.peak_allocated_bytes,
        real_bytes=real,
    )


def cpu_figures() -> Iterator[Figure]:
    """Yield every case in every scenario."""
    for name in CASES:
        for scenario in SCENARIOS:
            yield figure(name, scenario)
