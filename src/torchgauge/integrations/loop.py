"""A plain training loop that knows its costs: predicted at the start, checked by its first steps.

::

    with tg_loop(model, x, optimizer=optimizer, loss=lambda y: loss_fn(y, target)) as gauge:
        for x, target in loader:
            loss_fn(model(x), target).backward()
            optimizer.step()
            optimizer.zero_grad()
            gauge.step()
    print(gauge.outcome)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from types import TracebackType
from typing import Any

import torch
from torch import nn

from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.integrations.step.live_bytes import LiveBytes
from torchgauge.integrations.step.optimizers import unwrapped
from torchgauge.integrations.step.prediction import (
    TrainingStep,
    device_of,
    predicted,
    warn_if_too_large,
)
from torchgauge.units import format_bytes, format_milliseconds, format_number_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure, predicted and measured."""

    name: str
    unit: str
    """``"bytes"`` or ``"ms"``."""
    predicted: float | None
    measured: float | None

    @property
    def error(self) -> float | None:
        """Return how far off the prediction was: 0.1 is 10 % too much."""
        if self.predicted is None or not self.measured:
            return None
        return self.predicted / self.measured - 1

    def __str__(self) -> str:
        write = format_bytes if self.unit == "bytes" else format_milliseconds
        predicted = "not predicted" if self.predicted is None else write(self.predicted)
        if self.measured is None:
            return f"{self.name}: {predicted} predicted, not measured"
        if self.error is None:
            return f"{self.name}: {write(self.measured)} measured, {predicted}"
        return (
            f"{self.name}: {predicted} predicted, {write(self.measured)} measured "
            f"({self.error:+.1%})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the first steps of a loop compare with what was predicted."""

    steps: int
    """How many were timed."""
    figures: tuple[Figure, ...]

    def __str__(self) -> str:
        lines = [f"  {figure}" for figure in self.figures]
        return "\n".join([f"{format_number_of(self.steps, 'step')} timed", *lines])

    def figure(self, name: str) -> Figure:
        """Return a figure by its name.

        Raises:
            KeyError: there is none of that name.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)


class tg_loop:  # read as a word of the loop that it stands in
    """Predict a step, then measure the first ones and say how far off the prediction was.

    The first step is left out: libraries set themselves up in it, and the optimizer makes its
    states. On a CPU the second one counts the tensors that are alive, which slows it; the time of a
    step is the median of those after it. On CUDA the caching allocator counts.

    Args:
        model: what is trained; it is analysed on a copy.
        sample: what the model's forward gets, as ``analyze`` takes ``input_data``.
        optimizer: of torch.
        loss: a function from the model's output to a scalar; the model's own by default.
        steps: how many steps to time.
        device: a GPU to predict for; the one that the model is on by default. Where it is another
            one, nothing is measured.
        on_outcome: called with the outcome, once, when the steps are measured.
        **scenario: fields of ``Scenario``, such as ``precision="bf16-autocast"``.

    Raises:
        TorchGaugeError: the model or the scenario cannot be analysed.
    """

    def __init__(
        self,
        model: nn.Module,
        sample: Any,
        *,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[Any], Any] | None = None,
        steps: int = 5,
        device: str | None = None,
        on_outcome: Callable[[Outcome], None] | None = None,
        **scenario: Any,
    ) -> None:
        if steps < 1:
            raise UsageError(f"steps={steps} measures nothing", hint="use 1 or more")
        args = sample if isinstance(sample, tuple) else (sample,)
        kwargs = sample if isinstance(sample, dict) else {}
        self.report: Report = predicted(
            TrainingStep(
                model=model,
                args=() if kwargs else args,
                kwargs=kwargs,
                loss=loss,
                optimizer=optimizer,
                device=device,
                scenario=scenario,
            )
        )
        warn_if_too_large(self.report)
        self.outcome: Outcome | None = None
        self._here = device_of(model)
        self._measures = device is None or device == self._here
        self._model = model
        self._optimizer = unwrapped(optimizer)
        self._wanted = steps
        self._on_outcome = on_outcome
        self._times: list[float] = []
        self._seen = 0
        self._counting: LiveBytes | None = None
        self._peaks: dict[str, float] = {}
        self._begin = 0.0

    def __enter__(self) -> tg_loop:
        self._begin = self._now()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_counting(keep=False)
        if kind is None and self.outcome is None and self._measures and self._seen > 1:
            self._finish()

    def step(self) -> None:
        """Say that a step is done: its backward, the optimizer's step, ``zero_grad``."""
        if self.outcome is not None or not self._measures:
            return
        end = self._now()
        self._seen += 1
        if self._seen == 1:
            self._start_counting()
        elif self._seen == 2:
            self._stop_counting(keep=True)
        else:
            self._times.append(1000.0 * (end - self._begin))
            if len(self._times) == self._wanted:
                self._finish()
                return
        self._begin = self._now()

    # ------------------------------------------------------------------ measuring

    def _now(self) -> float:
        if self._here == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _start_counting(self) -> None:
        if self._here == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return
        self._counting = LiveBytes(self._alive())
        self._counting.__enter__()  # type: ignore[no-untyped-call]

    def _stop_counting(self, *, keep: bool) -> None:
        if self._counting is not None:
            self._counting.__exit__(None, None, None)
            if keep:
                self._peaks["peak_allocated_bytes"] = self._counting.peak_bytes
            self._counting = None
        elif keep and self._here == "cuda":
            self._peaks["peak_allocated_bytes"] = torch.cuda.max_memory_allocated()
            self._peaks["peak_reserved_bytes"] = torch.cuda.max_memory_reserved()

    def _alive(self) -> Iterator[torch.Tensor]:
        yield from self._model.buffers()
        for parameter in self._model.parameters():
            yield parameter
            if parameter.grad is not None:
                yield parameter.grad
        for state in self._optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, torch.Tensor))

    def _finish(self) -> None:
        self.outcome = Outcome(steps=len(self._times), figures=tuple(self._figures()))
        if self._on_outcome is not None:
            self._on_outcome(self.outcome)

    def _figures(self) -> Iterator[Figure]:
        memory, step_time = self.report.memory, self.report.time
        for name, what in (
            ("peak_allocated_bytes", "peak memory of tensors"),
            ("peak_reserved_bytes", "peak memory of the allocator"),
        ):
            expected, seen = getattr(memory, name, None), self._peaks.get(name)
            if expected is not None or seen is not None:
                yield Figure(name=what, unit="bytes", predicted=expected, measured=seen)
        total = None if step_time is None else step_time.total_ms
        seen = median(self._times) if self._times else None
        yield Figure(name="time of a step", unit="ms", predicted=total, measured=seen)
