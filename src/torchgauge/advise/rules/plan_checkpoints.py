"""A step that does not fit its GPU → the modules to recompute so that it does."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from torch import nn

from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.checkpoints.engine import plan_model
from torchgauge.checkpoints.goal import PlanOptions
from torchgauge.facts.fit import Verdict


class PlanCheckpoints:
    """Choose what to checkpoint where checkpointing every block is more than it takes."""

    name = "plan-checkpoints"
    about = "the modules to recompute in the backward so that a step fits its GPU"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield the plan of a training step that does not fit."""
        scenario, memory = subject.report.scenario, subject.report.memory
        if not scenario.is_training or scenario.checkpointing:
            yield "it is not a training step, or it checkpoints already"
            return
        if memory is None or memory.verdict in (None, Verdict.FITS):
            yield "the step fits, or no GPU is named"
            return
        if find_spec("highspy") is None:
            yield "highspy is not installed: pip install 'torchgauge[plan]'"
            return
        plan = plan_model(subject.request, PlanOptions())
        if not plan.recomputed:
            yield "recomputing modules does not lower the peak"
            return
        again = plan.figure("totals.total_flops")
        yield Change(
            rule=self.name,
            axis="checkpointing",
            text=f"recompute {len(plan.recomputed)} chosen modules in the backward",
            why="chosen to free the missing memory at the least extra work",
            cost="" if again.ratio is None else f"{(again.ratio - 1) * 100:.1f} % more FLOPs",
            source="Jain et al., Checkmate, arXiv 1910.02653",
            snippet=plan.snippet,
            scenario={"checkpointing": True, "checkpointed": plan.checkpointed},
        )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Nothing in the model changes."""
