"""Where the step does not match: the same model run in another way that does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torchgauge.analyze import run_model
from torchgauge.changes.inputs import ran_of, with_batch
from torchgauge.errors import TorchGaugeError
from torchgauge.estimate.memory.device import loop_of
from torchgauge.facts.loop.oom import OomMessage
from torchgauge.facts.report import Report
from torchgauge.facts.scenario import Precision
from torchgauge.oom.places import find_places
from torchgauge.request import Request
from torchgauge.target import target_of

_OPTIMIZERS = ("sgd", "sgd-momentum", "adamw")
_PRECISIONS = (Precision.AS_BUILT, Precision.BF16, Precision.FP16, Precision.BF16_AUTOCAST)
_FACTORS = (2, 0.5, 4, 0.25)


def matching_variants(
    request: Request, report: Report, message: OomMessage
) -> tuple[tuple[str, ...], int]:
    """Return the changes of batch, precision and optimizer that match, and the traces it took."""
    found, traces = [], 0
    for text, variant in _variants(request, report):
        traces += 1
        request.tell(f"trace {traces + 1}: {text}")
        try:
            outcome = run_model(variant).outcome
            gpu = target_of(variant.scenario).gpu
        except TorchGaugeError:
            continue
        if outcome.error is not None or gpu is None:
            continue
        loop = loop_of(outcome.trace, gpu)
        if find_places(outcome.trace, loop, gpu.settings, message).found:
            found.append(text)
    return tuple(found), traces


def _variants(request: Request, report: Report) -> Iterator[tuple[str, Request]]:
    for factor in _FACTORS:
        batch = int((report.batch_size or 0) * factor)
        if batch and batch != report.batch_size:
            try:
                inputs = with_batch(request.inputs, batch, ran_of(report))
                yield f"batch size {batch}", replace(request, inputs=inputs)
            except TorchGaugeError:
                break
    scenario = request.scenario
    for precision in _PRECISIONS:
        if precision != scenario.precision:
            yield from _of(f"precision {precision}", request, precision=precision)
    for name in _OPTIMIZERS if scenario.is_training else ():
        if name != scenario.optimizer:
            yield from _of(f"optimizer {name}", request, optimizer=name)


def _of(text: str, request: Request, **fields: Any) -> Iterator[tuple[str, Request]]:
    try:
        yield text, replace(request, scenario=replace(request.scenario, **fields))
    except TorchGaugeError:  # such a scenario contradicts itself
        return
