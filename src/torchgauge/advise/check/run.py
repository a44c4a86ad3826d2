"""Run the model and its changed copies on the same batches, each batch once for all of them."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchgauge.advise.apply import change_of
from torchgauge.advise.check.batches import Batch, batches_of
from torchgauge.advise.check.metrics import Metric, chosen_metric
from torchgauge.advise.check.proof import nothing_left_outside
from torchgauge.advise.rules import rule_of
from torchgauge.changes.change import rewritten
from torchgauge.errors import TorchGaugeError, UsageError
from torchgauge.facts.loop.advice import Suggestion
from torchgauge.facts.scenario import Precision
from torchgauge.models.build import first_line
from torchgauge.models.requests import build_for, check_runs
from torchgauge.models.sources.python_source import load
from torchgauge.request import Request
from torchgauge.trace.isolate.isolation import random_state_kept

CHECK: Final = "torchgauge.advise.check.run:check_apart"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTask:
    """What is to be measured in a process of its own."""

    request: Request
    """Without a model: it is built anew from its spec."""
    changes: tuple[tuple[Suggestion, ...], ...]
    data: str
    metric: str | None
    limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of it."""

    metric: str
    samples: int
    is_complete: bool
    seconds: float
    before: float
    after: tuple[float | None, ...]
    """One for each of the changes; ``None`` where it could not be measured."""
    why: tuple[str, ...]
    weights: str


@dataclass(slots=True, kw_only=True)
class _Runner:
    """A model with what it has scored so far."""

    model: nn.Module | None
    autocast: torch.dtype | None = None
    total: float = 0.0
    weight: float = 0.0
    why: str = ""

    def outputs(self, batch: Batch) -> Any:
        assert self.model is not None
        place = next((t.device.type for t in self.model.parameters()), "cpu")
        cast: Any = contextlib.nullcontext()
        if self.autocast is not None:
            cast = torch.autocast(place, dtype=self.autocast)
        with torch.no_grad(), cast:
            return self.model(*batch.args, **batch.kwargs)

    def add(self, metric: Metric, outputs: Any, batch: Batch) -> None:
        score, weight = metric.score(outputs, batch)
        if not math.isfinite(score):
            raise UsageError(
                f"{metric.name} is {score / weight if weight else score} for a batch",
                hint="look at what the model returns for these data, and at the targets",
            )
        self.total += score
        self.weight += weight

    @property
    def mean(self) -> float | None:
        return self.total / self.weight if self.weight and not self.why else None


@dataclass(slots=True, kw_only=True)
class Check:
    """A loader and how to measure on it."""

    loader: Any
    name: str
    metric: Callable[[Any, Any], Any] | None = None
    limit_s: float = 60.0
    weights: str = ""
    _runners: list[_Runner] = field(default_factory=list)

    def run(self, model: nn.Module, changes: Sequence[Sequence[Suggestion]]) -> Measured:
        """Measure a model and changed copies of it, in eval mode and without gradients.

        The model stays as it is, and the random numbers too.

        Raises:
            UsageError: the loader or the metric fails, or the model does on these data.
        """
        with random_state_kept(), nothing_left_outside(model):
            torch.manual_seed(0)
            base = copy.deepcopy(model).eval()  # a forward may write into buffers
            self._runners = [_changed(base, items) for items in changes]
            return self._measured(base)

    def _measured(self, base: nn.Module) -> Measured:
        first, metric = _Runner(model=base), None
        samples, is_complete, start = 0, True, time.monotonic()
        for batch in batches_of(self.loader, self.name, base):
            if samples and time.monotonic() - start > self.limit_s:
                is_complete = False
                break
            outputs = _of_the_model(first, batch, self.name)
            metric = metric or chosen_metric(self.metric, outputs, batch)
            first.add(metric, outputs, batch)
            for runner in self._runners:
                _add(runner, metric, batch)
            samples += batch.samples
        before = first.mean
        assert metric is not None
        if before is None:
            raise UsageError("every target has the ignored index", hint="give data with targets")
        return Measured(
            metric=metric.name,
            samples=samples,
            is_complete=is_complete,
            seconds=time.monotonic() - start,
            before=before,
            after=tuple(runner.mean for runner in self._runners),
            why=tuple(runner.why for runner in self._runners),
            weights=self.weights,
        )


def check_apart(task: CheckTask) -> Measured:
    """Build the model, import the data and measure; see ``Check``.

    Raises:
        TorchGaugeError: the model or the data cannot be had, or ``Check.run`` raises.
    """
    before = _fingerprint(_built(task.request, seed=0))
    model = _built(task.request, seed=1)
    check = Check(
        loader=load(task.data),
        name=task.data,
        metric=None if task.metric is None else load(task.metric),
        limit_s=task.limit_s,
        weights=_drawn(before, _fingerprint(model)) or never_trained(model),
    )
    return check.run(model, task.changes)


def never_trained(model: nn.Module) -> str:
    """Return what says that a model has not been trained; ``""`` for nothing."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    counts = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    if counts and not any(int(count) for count in counts):
        return "its batch norms have not seen a batch, so the model seems untrained"
    return ""


# ---------------------------------------------------------------------------- the models


def _changed(base: nn.Module, changes: Sequence[Suggestion]) -> _Runner:
    """Return a copy of a model with changes, one on top of the other; it shares their tensors."""
    model, autocast = base, None
    try:
        for change in changes:
            if change.changes_model:
                model = rewritten(change_of(change), model, rule_of(change.rule))
            elif (name := change.scenario.get("precision")) is not None:
                dtype = Precision(name).autocast_dtype
                autocast = None if dtype is None else getattr(torch, dtype)
    except TorchGaugeError as error:
        return _Runner(model=None, why=error.message)
    return _Runner(model=model.eval(), autocast=autocast)


def _of_the_model(runner: _Runner, batch: Batch, name: str) -> Any:
    try:
        return runner.outputs(batch)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"the model fails on what {name} gives: {first_line(error)}",
            hint="give it the inputs that the forward takes",
        ) from error


def _add(runner: _Runner, metric: Metric, batch: Batch) -> None:
    if runner.why or runner.model is None:
        return
    try:
        runner.add(metric, runner.outputs(batch), batch)
    except UsageError as error:  # of what it returns, no number can be made
        runner.why = error.message
    except (Exception, SystemExit) as error:  # the changed copy, on inputs that the trace had not
        runner.why = f"it fails on these data: {first_line(error)}"


def _built(request: Request, *, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    made = build_for(request, with_weights=True)
    check_runs(made)
    return made.model


def _fingerprint(model: nn.Module) -> dict[str, tuple[float, float]]:
    """Return of each parameter what another draw of random numbers would change."""
    return {
        name: (float(p.detach().double().sum()), float(p.detach().double().norm()))
        for name, p in model.named_parameters()
    }


def _drawn(one: dict[str, tuple[float, float]], other: dict[str, tuple[float, float]]) -> str:
    """Return which parameters are drawn at random when the model is built."""
    random = [name for name, found in one.items() if other.get(name) != found]
    if not random:
        return ""
    if len(random) > len(one) // 2:
        return "the model's weights are random, as they were built: it is not trained"
    return f"weights drawn at random, not trained: {', '.join(random[:3])}" + (
        f" and {len(random) - 3} more" if len(random) > 3 else ""
    )
