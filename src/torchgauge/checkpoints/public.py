"""``torchgauge.plan_checkpoints``: what to recompute so that a step fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchgauge.errors import UsageError
from torchgauge.facts.loop.checkpoints import CheckpointPlan, Least
from torchgauge.models.requests import request_of
from torchgauge.units import parse_bytes

if TYPE_CHECKING:
    from torch import nn

    from torchgauge.request import InputSize


def plan_checkpoints(
    model: nn.Module | str,
    input_size: InputSize | None = None,
    *,
    memory: int | str | None = None,
    keep: float | None = None,
    least: str | None = None,
    **options: Any,
) -> CheckpointPlan:
    """Choose the modules to recompute in the backward, so that a training step fits.

    A mixed-integer program over the traced step is solved by HiGHS. The plan is then traced,
    and the figures are those of that trace. Needs ``highspy`` (``pip install "torchgauge[plan]"``).

    Args:
        model: as ``analyze`` takes it; it stays as it is until ``plan.apply(model)``.
        input_size: as ``analyze`` takes it.
        memory: limit in bytes, or text: ``"8GB"``. On a GPU the CUDA context counts too.
        keep: share of the saved activations to keep: ``0.5`` takes half of their bytes off the
            peak. With neither, the step has to fit the GPU that ``device`` names.
        least: ``"flops"`` or ``"time"``; by default time where it can be predicted.
        **options: those of ``analyze``.

    Raises:
        UsageError: no goal, or one that makes no sense.
        MissingExtraError: highspy is not installed.
        TorchGaugeError: what ``analyze`` raises.
    """
    from torchgauge.checkpoints.engine import plan_model
    from torchgauge.checkpoints.goal import PlanOptions

    asked = PlanOptions(
        memory_bytes=_bytes(memory), keep=keep, least=None if least is None else _least(least)
    )
    return plan_model(request_of(model, input_size, {"mode": "training"} | options), asked)


def _bytes(memory: int | str | None) -> int | None:
    if not isinstance(memory, str):
        return memory
    try:
        return parse_bytes(memory)
    except ValueError as error:
        raise UsageError(str(error), hint="write --memory 8GB; in Python memory='8GB'") from error


def _least(text: str) -> Least:
    try:
        return Least(text)
    except ValueError as error:
        raise UsageError(f"least={text!r} is unknown", hint="write flops or time") from error
