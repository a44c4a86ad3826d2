"""The choice of the rules for a platform, and how they are called."""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces import complex_kernels, losses, matrices
from torchgauge.estimate.memory.workspaces.cpu import rules as cpu
from torchgauge.estimate.memory.workspaces.cuda import attention, convolution, kernels
from torchgauge.estimate.memory.workspaces.platform import Platform, Rule, Workspaces

_RULES: dict[str, dict[str, Rule]] = {
    "cpu": {**cpu.RULES, **complex_kernels.RULES, **losses.RULES},
    "cuda": {
        **attention.RULES,
        **convolution.RULES,
        **kernels.RULES,
        **complex_kernels.RULES,
        **losses.RULES,
        **matrices.RULES,
    },
}


def workspaces_for(platform: Platform) -> Workspaces:
    """Return the function that gives the workspaces of an op on that platform."""
    return Workspaces(rules=_RULES.get(platform.type, {}), platform=platform)
