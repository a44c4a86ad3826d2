"""Predicted against really allocated peak of steps on the CPU, by the profiler's memory events.

One thread, as the report of a simulated run assumes: each further one adds partial sums of its own.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import torchgauge as tg
from benchmarks.cpu_cases import CASES, SCENARIOS, dtypes_of
from torchgauge.trace.inputs import plan_inputs
from torchgauge.trace.training import compute_loss, make_optimizer


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

    def __init__(self, model: torch.nn.Module, size: Any, scenario: tg.Scenario) -> None:
        plan = plan_inputs(
            model, size, None, batch_size=None, batch_dim=None,
            dtypes=dtypes_of(size), forward_kwargs={},
        )  # fmt: skip
        self._model = model.train(scenario.is_training)
        self._scenario = scenario
        self._args = tuple(value.make("cpu") for value in plan.args)
        self._kwargs = {name: value.make("cpu") for name, value in plan.kwargs.items()}
        self._optimizer = (
            make_optimizer(scenario.optimizer or "none", model.parameters())
            if scenario.is_training
            else None
        )

    def run(self) -> Any:
        """Run the step once and return what the loop still names at its end."""
        if not self._scenario.is_training:
            with torch.no_grad():
                return self._model(*self._args, **self._kwargs)
        assert self._optimizer is not None
        output = self._model(*self._args, **self._kwargs)
        loss, _ = compute_loss(output, self._scenario.loss or "auto", None)
        loss.backward()
        self._optimizer.step()
        return output, loss

    def reset(self) -> None:
        """Let go of the gradients."""
        self._model.zero_grad(set_to_none=True)

    def kept_bytes(self) -> int:
        """Return the bytes alive between two steps: weights, inputs, the optimizer's states."""
        tensors = [*self._model.parameters(), *self._model.buffers()]
        tensors += [*self._args, *self._kwargs.values()]
        if self._optimizer is not None:
            for state in self._optimizer.state.values():
                tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(storages.values())


def real_peak(step: Step) -> int:
    """Return the most bytes alive in the second step: states are there, gradients are not."""
    step.run()
    step.reset()
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            held = step.run()
        del held
    finally:
        if was_enabled:
            gc.enable()
    step.reset()
    return step.kept_bytes() + highest(allocations(profiler))


def allocations(profiler: Any) -> list[int]:
    """Return the bytes that were allocated (positive) and freed (negative), in order."""
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


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
        real = real_peak(Step(model, size, SCENARIOS[scenario]))
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
