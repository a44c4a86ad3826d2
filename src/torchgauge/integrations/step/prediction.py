"""A training step as a framework is about to run it → its report, and what to warn about."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torchgauge.errors import TorchGaugeError
from torchgauge.facts.fit import Verdict
from torchgauge.facts.report import Report
from torchgauge.integrations.step.optimizers import optimizer_fields
from torchgauge.units import format_bytes

_PRECISIONS = {
    "bf16": "bf16-autocast", "fp16": "fp16-autocast",
    "bf16-mixed": "bf16-autocast", "16-mixed": "fp16-autocast", "16": "fp16-autocast",
    "bf16-true": "bf16", "16-true": "fp16",
}  # fmt: skip
"""The names of Accelerate and Lightning; all others leave the model as it is built."""

_WIDTH = 100
"""Of the table in a log file."""


class DoesNotFitWarning(UserWarning):
    """The step will not fit, or may not fit, into the memory of the device."""


class NotPredictedWarning(UserWarning):
    """The step could not be analysed; training goes on as if torchgauge were not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep:
    """What a framework knows of its step before the first one runs."""

    model: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """What the model's forward gets."""
    loss: Callable[[Any], Any] | None = None
    """From the forward's output to a scalar; ``None`` for the model's own."""
    optimizer: Any = None
    """Of torch, wrapped or not; ``None`` for a scenario's default."""
    precision: str | None = None
    """As Accelerate or Lightning call it."""
    accumulation: int = 1
    gradient_clipping: bool = False
    device: str | None = None
    """A device to predict for; the one that the model is on where it is ``None``."""
    name: str | None = None
    scenario: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the scenario; they go before what is known of the step."""


def predicted(step: TrainingStep) -> Report:
    """Trace one step of training and return what it costs; the model is left as it was.

    Raises:
        TorchGaugeError: the step cannot be analysed, or the device is not known.
    """
    from torchgauge.api import analyze

    fields: dict[str, Any] = {
        "mode": "training",
        "device": step.device or device_of(step.model),
        "accumulation": step.accumulation,
        "gradient_clipping": step.gradient_clipping,
        **({} if step.optimizer is None else optimizer_fields(step.optimizer)),
    }
    precision = _PRECISIONS.get(str(step.precision))
    if precision is not None:
        fields["precision"] = precision
    fields.update(step.scenario)
    return analyze(
        step.model,
        input_data=step.args,
        forward_kwargs=dict(step.kwargs),
        loss=step.loss,
        model_name=step.name or type(step.model).__name__,
        name_batch=True,
        **fields,
    )


def predicted_or_warned(step: TrainingStep) -> Report | None:
    """Return the report, or warn that there is none: a look at the costs ends no training."""
    try:
        report = predicted(step)
    except TorchGaugeError as error:
        name = step.name or type(step.model).__name__
        text = f"torchgauge could not analyse the training step of {name}: {error}"
        warnings.warn(text, NotPredictedWarning, stacklevel=2)
        return None
    warn_if_too_large(report)
    return report


def device_of(model: Any) -> str:
    """Return the name that a scenario has for the device of a model's parameters."""
    parameter = next(iter(model.parameters()), None)
    return "cuda" if parameter is not None and parameter.device.type == "cuda" else "cpu"


def warn_if_too_large(report: Report) -> None:
    """Warn where the step does not fit, or may not fit, into its device."""
    text = verdict_text(report)
    if text is not None:
        warnings.warn(text, DoesNotFitWarning, stacklevel=2)


def verdict_text(report: Report) -> str | None:
    """Return the warning for a step that does not surely fit; ``None`` where it fits.

    A CPU has no verdict: its memory is shared and swapped.
    """
    memory = report.memory
    if memory is None or memory.verdict is None or memory.verdict is Verdict.FITS:
        return None
    needed, there = memory.device_bytes or 0, memory.capacity_bytes or 0
    device = report.scenario.device
    sizes = f"{format_bytes(needed)} needed; {device} has {format_bytes(there)}"
    hint = f"tg.fits(model, …, device={device!r}) finds the largest batch and what saves memory"
    if memory.verdict is Verdict.DOES_NOT_FIT:
        return f"the training step will not fit: {sizes}\n  try: {hint}"
    if memory.verdict is Verdict.TOO_CLOSE:
        return f"the training step may not fit: {sizes}\n  try: {hint}"
    return (
        f"the training step fits only by giving cached memory back, which costs time: {sizes}"
        f"\n  try: {hint}"
    )


def print_report(report: Report, *, depth: int | None) -> None:
    """Show the calm view of a report, as the summary that it takes the place of."""
    from torchgauge.api import show
    from torchgauge.render.shell import notebook_shell

    is_log = notebook_shell() is None and not sys.stdout.isatty()
    with suppress(UnicodeEncodeError):
        show(report, depth=depth, details=False, width=_WIDTH if is_log else None)
