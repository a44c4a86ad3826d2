"""What a plan has to reach: bytes, a GPU, or a share of the activations."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torchgauge.errors import UsageError
from torchgauge.facts.fit import Verdict
from torchgauge.facts.loop.checkpoints import Least, MemoryGoal
from torchgauge.facts.report import Report
from torchgauge.units import format_bytes

_FORMS = "--memory 8GB, --keep 50% or --device T4; in Python memory='8GB', keep=0.5 or device='T4'"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What is asked of the planner; without ``memory`` and ``keep`` the step has to fit its GPU."""

    memory_bytes: int | None = None
    keep: float | None = None
    """Share of the saved activations: the peak has to fall by the rest of them."""
    least: Least | None = None
    """``None`` for time where it can be predicted, else FLOPs."""


def goal_of(report: Report, options: PlanOptions) -> MemoryGoal:
    """Return what the memory of a step has to stay under.

    Raises:
        UsageError: nothing, or more than one thing, is asked for; or it makes no sense.
    """
    memory = report.memory
    assert memory is not None
    on_gpu = memory.device_bytes is not None
    figure = "memory.device_bytes" if on_gpu else "memory.peak_allocated_bytes"
    if options.memory_bytes is not None and options.keep is not None:
        raise UsageError("memory and keep are two goals", hint="give one of them")
    if options.memory_bytes is not None:
        if options.memory_bytes < 1:
            raise UsageError(
                "a goal of no bytes cannot be met",
                hint="write --memory 8GB; in Python memory='8GB'",
            )
        text = f"at most {format_bytes(options.memory_bytes)}"
        return MemoryGoal(text=text, figure=figure, most_bytes=options.memory_bytes)
    if options.keep is not None:
        if not (math.isfinite(options.keep) and 0.0 <= options.keep <= 1.0):
            raise UsageError(
                f"keep={options.keep} is not a share of the activations",
                hint="write keep=0.5, --keep 50%",
            )
        drop = round((1.0 - options.keep) * memory.saved_activation_bytes)
        text = f"keep {options.keep:.0%} of the activations"
        return MemoryGoal(
            text=text,
            figure="memory.peak_allocated_bytes",
            most_bytes=memory.peak_allocated_bytes - drop,
        )
    if memory.capacity_bytes is None:
        raise UsageError("no memory goal was given", hint=f"write {_FORMS}")
    return MemoryGoal(
        text=f"fit {report.scenario.device}",
        figure=figure,
        most_bytes=memory.capacity_bytes - report.scenario.other_programs_bytes,
        device=report.scenario.device,
    )


def figure_of(goal: MemoryGoal, report: Report) -> int:
    """Return the figure of a report that a goal is about."""
    value = getattr(report.memory, goal.figure.partition(".")[2])
    assert isinstance(value, int)
    return value


def is_met(goal: MemoryGoal, report: Report) -> bool:
    """Return whether a step stays under a goal, on a GPU that has to fit also by its verdict."""
    if goal.device is not None:
        return report.memory is not None and report.memory.verdict is Verdict.FITS
    return figure_of(goal, report) <= goal.most_bytes
