"""A look at what ``Accelerator.prepare`` returned, before its first forward."""

from __future__ import annotations

from typing import Any

from torch import nn

from torchgauge.facts.report import Report
from torchgauge.integrations.optional import optional
from torchgauge.integrations.step.first_forward import FirstForward
from torchgauge.integrations.step.prediction import TrainingStep, predicted_or_warned, print_report
from torchgauge.integrations.trackers import log
from torchgauge.integrations.trackers.record import scalars

optional("accelerate")


class Gauge:
    """What is known of a prepared model: ``report``, once its first forward has begun."""

    def __init__(self) -> None:
        self.report: Report | None = None
        self._first: FirstForward | None = None

    def remove(self) -> None:
        """Stop waiting for the first forward."""
        if self._first is not None:
            self._first.remove()


def gauge(
    accelerator: Any,
    model: nn.Module,
    optimizer: Any = None,
    *,
    loss: Any = None,
    device: str | None = None,
    depth: int = 2,
    to: Any = (),
    **scenario: Any,
) -> Gauge:
    """Analyse the first step of a model that ``accelerator.prepare`` returned, before it runs.

    Prints what the step costs, warns if it will not fit the GPU, and keeps the figures in the
    trackers that ``accelerator.init_trackers`` has started.

    Args:
        accelerator: says the precision and the accumulation.
        model: as ``prepare`` returned it.
        optimizer: the same.
        loss: a function from the model's output to a scalar; the model's own loss by default.
        device: a GPU to predict for, such as ``"T4"``; the one that the model is on by default.
        depth: levels of modules in the table; 0 prints nothing.
        to: further trackers, as ``trackers.log`` takes them.
        **scenario: fields of ``Scenario`` that go before what the accelerator says.
    """
    found = Gauge()
    if not accelerator.is_main_process:
        return found

    def analyse(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inner = accelerator.unwrap_model(model, keep_fp32_wrapper=True)
        step = TrainingStep(
            model=inner,
            args=args,
            kwargs=kwargs,
            loss=loss,
            optimizer=optimizer,
            precision=accelerator.mixed_precision,
            accumulation=accelerator.gradient_accumulation_steps,
            device=device,
            scenario=scenario,
        )
        found.report = predicted_or_warned(step)
        if found.report is None:
            return
        if depth:
            print_report(found.report, depth=depth)
        accelerator.log(scalars(found.report), step=0)
        log(found.report, to=to)

    found._first = FirstForward(model, analyse)
    return found
