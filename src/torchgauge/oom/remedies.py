"""Changes that would have avoided the error, each traced and replayed under the same memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torchgauge.analyze import run_model
from torchgauge.changes.change import Change, applied
from torchgauge.changes.ideas import IDEAS, smaller_batch
from torchgauge.changes.inputs import Ran, ran_of
from torchgauge.changes.step import step_of
from torchgauge.errors import TorchGaugeError
from torchgauge.estimate.memory.allocator import smallest_cap
from torchgauge.estimate.memory.device import Gpu, loop_of
from torchgauge.estimate.memory.loop import Loop
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.facts.loop.oom import OomExplanation, Remedy
from torchgauge.facts.report import Report
from torchgauge.request import Request
from torchgauge.target import target_of
from torchgauge.units import format_bytes

_OWN = ("batch", "allocator", "lora")
"""Axes of ideas that are tried apart, or that train other parameters."""
_HALVINGS = 6
"""How often the batch is halved before it is given up."""


@dataclass(slots=True, kw_only=True)
class _Trier:
    request: Request
    available: int
    ran: Ran
    traces: int = 0

    def minimum(self, change: Change) -> int | None:
        """Return the memory that the step runs in with a change; ``None`` where it fails."""
        self.traces += 1
        self.request.tell(f"trace {self.traces + 1}: {change.text}")
        try:
            request = applied(change, self.request, ran=self.ran)
            outcome = run_model(request).outcome
            gpu = target_of(request.scenario).gpu
        except TorchGaugeError:
            return None
        if outcome.error is not None or gpu is None:
            return None
        return smallest_cap(loop_of(outcome.trace, gpu).events, gpu.settings)

    def remedy(self, change: Change) -> Remedy | None:
        minimum = self.minimum(change)
        if minimum is None:
            return None
        return Remedy(
            text=change.text,
            minimum_bytes=minimum,
            avoids=minimum <= self.available,
            cost=change.cost,
            snippet=change.snippet,
        )


def remedies_of(
    request: Request, report: Report, loop: Loop, gpu: Gpu, answer: OomExplanation
) -> tuple[tuple[Remedy, ...], int]:
    """Return what was tried, that which avoids the error first, and how many traces it took."""
    assert answer.available_bytes is not None
    trier = _Trier(request=request, available=answer.available_bytes, ran=ran_of(report))
    found = [
        *_without_a_trace(loop, gpu, answer),
        *_of_scenario(trier, report),
        *_of_batch(trier, report.batch_size),
    ]
    saving = [item for item in found if item.avoids or item.minimum_bytes < answer.minimum_bytes]
    return tuple(sorted(saving, key=lambda item: not item.avoids)), trier.traces


def _without_a_trace(loop: Loop, gpu: Gpu, answer: OomExplanation) -> Iterator[Remedy]:
    available, outside = answer.available_bytes or 0, answer.outside
    if outside is not None and outside.other_programs_bytes:
        freed = outside.other_programs_bytes
        yield Remedy(
            text=f"end the other programs on the GPU: they hold {format_bytes(freed)}",
            minimum_bytes=answer.minimum_bytes,
            avoids=answer.minimum_bytes <= available + freed,
        )
    if not gpu.settings.expandable_segments:
        settings = replace(gpu.settings, expandable_segments=True)
        minimum = smallest_cap(loop.events, settings)
        yield Remedy(
            text="let segments grow, so that less memory lies between tensors",
            minimum_bytes=minimum,
            avoids=minimum <= available,
            snippet=("export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",),
        )


def _of_scenario(trier: _Trier, report: Report) -> Iterator[Remedy]:
    """Yield other ways to run the same step; the batch and the allocator are tried apart."""
    step = step_of(report, target_of(report.scenario).device)
    for idea in IDEAS:
        if not idea.saves_memory or idea.axis in _OWN or not idea.suits(step.scenario):
            continue
        change = idea.make(step)
        if isinstance(change, str) or change.accuracy is Accuracy.RETRAIN:
            continue
        if (remedy := trier.remedy(change)) is not None:
            yield remedy


def _of_batch(trier: _Trier, batch: int | None) -> Iterator[Remedy]:
    """Yield the largest half, quarter, … of the batch that runs."""
    if batch is None:
        return
    cost = "gradients of several such steps have to be accumulated for the same batch"
    for _ in range(_HALVINGS):
        batch //= 2
        if not batch:
            return
        remedy = trier.remedy(replace(smaller_batch(batch), cost=cost))
        if remedy is None:
            return
        if remedy.avoids:
            yield remedy
            return
