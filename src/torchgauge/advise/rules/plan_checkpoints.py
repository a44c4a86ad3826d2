"""A step that needs too much memory → the modules to recompute so that it does not."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

from torch import nn

from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.changes.traces import Traces
from torchgauge.checkpoints.engine import code_of, planner_of
from torchgauge.checkpoints.goal import PlanOptions
from torchgauge.checkpoints.search import search
from torchgauge.facts.fit import Verdict
from torchgauge.facts.loop.advice import Goal
from torchgauge.facts.report import Report
from torchgauge.request import Request

NAME: Final = "plan-checkpoints"
AXIS: Final = "checkpointing"
_ROUNDS: Final = 5
"""Plans that are traced at most: a search makes several."""


class PlanCheckpoints:
    """Choose what to checkpoint where checkpointing every block is more than it takes."""

    name = NAME
    about = "the modules to recompute in the backward so that a training step has enough memory"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield the plan that reaches the goal, or fits the GPU, with nothing else changed."""
        if why := why_none(subject):
            yield why
            return
        made = plan(subject.request, subject.report, subject.goal, subject.traces)
        yield made or "recomputing modules does not lower the peak"

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Nothing in the model changes: the step is traced with the places of the scenario."""


def why_none(subject: Subject) -> str:
    """Return why a step has no use for a plan, whatever else is changed; ``""`` where it has."""
    scenario, memory = subject.report.scenario, subject.report.memory
    if not scenario.is_training or scenario.checkpointing:
        return "it is not a training step, or it checkpoints already"
    if not is_of_memory(subject.goal) and (
        memory is None or memory.verdict in (None, Verdict.FITS)
    ):
        return "the step fits, or no GPU is named"
    if find_spec("highspy") is None:
        return "highspy is not installed: pip install 'torchgauge[plan]'"
    return ""


def is_of_memory(goal: Goal | None) -> bool:
    """Return whether a goal is one that a plan can reach."""
    return goal is not None and goal.figure.startswith("memory.")


def plan(request: Request, report: Report, goal: Goal | None, traces: Traces) -> Change | None:
    """Return the modules of a step to recompute; ``None`` where that does not lower its peak.

    Args:
        request: the step, with all that is changed otherwise.
        report: what came of it.
        goal: what its memory has to come to; without a goal in memory it has to fit its GPU.
        traces: counts those of the planner.

    Raises:
        TorchGaugeError: a plan cannot be traced.
    """
    asked = PlanOptions()
    if goal is not None and is_of_memory(goal) and goal.device is None:
        asked = PlanOptions(memory_bytes=int(goal.most))
    planner = planner_of(request, report, asked, traces)
    planner.rounds = _ROUNDS
    found = search(planner)
    places = planner.places(found.chosen)
    if not places:
        return None
    count, before = len(places), report.totals.total_flops
    extra = found.report.totals.total_flops / before - 1 if before else None
    return Change(
        rule=NAME,
        axis=AXIS,
        label="one module recomputed" if count == 1 else f"{count} modules recomputed",
        text="recompute one chosen module in the backward"
        if count == 1
        else f"recompute {count} chosen modules in the backward",
        why="chosen to free the missing memory at the least extra work",
        cost="" if extra is None else f"{extra * 100:.1f} % more FLOPs",
        source="Jain et al., Checkmate, arXiv 1910.02653",
        snippet=code_of(planner, found),
        scenario={"checkpointing": True, "checkpointed": places},
        follows=is_of_memory(goal),
    )


def any_plan() -> Change:
    """Return the change to whatever plan reaches the goal, for a search to make."""
    return Change(rule=NAME, axis=AXIS, text="", why="", follows=True)
