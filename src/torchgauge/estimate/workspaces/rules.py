"""The choice of the rules for a target, and how they are called."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from torchgauge.estimate.workspaces import cpu, cuda_attention, cuda_convolution, cuda_kernels
from torchgauge.estimate.workspaces.target import Rule, Target
from torchgauge.report.model import OpRecord

Workspaces: TypeAlias = Callable[[OpRecord], tuple[int, ...]]

_RULES: dict[str, dict[str, Rule]] = {
    "cpu": cpu.RULES,
    "cuda": {**cuda_attention.RULES, **cuda_convolution.RULES, **cuda_kernels.RULES},
}


def workspaces_for(target: Target, *, convolutions: bool = True) -> Workspaces:
    """Return the function that gives the workspaces of an op on that target.

    Without ``convolutions`` theirs are left out: they are expected, not known.
    """
    rules = _RULES.get(target.type, {})
    if not convolutions:
        rules = {name: rule for name, rule in rules.items() if "convolution" not in name}
    return partial(_workspaces, rules, target)


def _workspaces(rules: dict[str, Rule], target: Target, op: OpRecord) -> tuple[int, ...]:
    rule = rules.get(op.name)
    if rule is None:
        return ()
    return tuple(size for size in rule(op, target) if size > 0)


__all__ = ["Target", "Workspaces", "workspaces_for"]
