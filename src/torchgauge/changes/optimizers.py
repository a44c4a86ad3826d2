"""Ideas about the optimizer: other states, or none of its temporaries."""

from __future__ import annotations

from typing import Any, Final

from torchgauge.changes.change import Change
from torchgauge.changes.step import Step, change_of
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.facts.scenario import FUSED_OPTIMIZERS, OptimizerImplementation

_EIGHT_BIT: Final = "Dettmers et al., 8-bit Optimizers, arXiv 2110.02861"
_ADAFACTOR: Final = "Shazeer et al., Adafactor, arXiv 1804.04235"
_STATE_FREE: Final = ("sgd", "none")
_ADAMS: Final = ("adam", "adamw", "nadam", "radam", "adamax")
_CLASSES: Final = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "sgd-momentum": "SGD",
                   "adagrad": "Adagrad"}  # fmt: skip


def fused(now: Step) -> Change | str:
    """Take the optimizer's fused implementation."""
    scenario = now.scenario
    if scenario.optimizer not in FUSED_OPTIMIZERS:
        return f"{scenario.optimizer} has no fused implementation"
    if scenario.optimizer_implementation is OptimizerImplementation.FUSED:
        return ""
    return change_of(
        "optimizer",
        f"{scenario.optimizer} with fused=True, no temporaries",
        f"use the fused {scenario.optimizer}",
        "the default makes temporaries as large as the parameters",
        snippet=f"torch.optim.{_CLASSES[scenario.optimizer]}(model.parameters(), fused=True)",
        optimizer_implementation=OptimizerImplementation.FUSED,
    )


def eight_bit(now: Step) -> Change | str:
    """Keep states of 8 bits."""
    if now.scenario.optimizer not in _ADAMS:
        return ""
    return _optimizer(
        now,
        "adamw-8bit",
        "optimizer AdamW8bit of bitsandbytes",
        accuracy=Accuracy.SMALL,
        cost="",
        source=_EIGHT_BIT,
        snippet="bitsandbytes.optim.AdamW8bit(model.parameters())",
    )


def adafactor(now: Step) -> Change | str:
    """Keep factored states."""
    return _optimizer(
        now,
        "adafactor",
        "optimizer adafactor",
        source=_ADAFACTOR,
        snippet="torch.optim.Adafactor(model.parameters())",
    )


def momentum(now: Step) -> Change | str:
    """Keep one state for each parameter."""
    return _optimizer(
        now,
        "sgd-momentum",
        "optimizer sgd-momentum",
        snippet="torch.optim.SGD(model.parameters(), lr=…, momentum=0.9)",
    )


def _optimizer(
    now: Step,
    name: str,
    label: str,
    *,
    accuracy: Accuracy = Accuracy.RETRAIN,
    cost: str = "needs another learning rate",
    source: str = "",
    snippet: str,
) -> Change | str:
    current = now.scenario.optimizer or "sgd"
    if current == name:
        return ""
    if current in _STATE_FREE:
        return f"{current} has no states"
    return change_of(
        "optimizer",
        label,
        f"train with the {label}",
        f"it keeps other states than {current}",
        accuracy=accuracy,
        cost=cost,
        source=source,
        snippet=snippet,
        **optimizer_fields(name),
    )


def optimizer_fields(name: str) -> dict[str, Any]:
    """Return the fields of a scenario with another optimizer: options are those of one alone."""
    return {"optimizer": name, "optimizer_options": (), "optimizer_implementation": None}
