"""The choice of the rules for a platform, and how they are called."""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces import composed, losses, matrices
from torchgauge.estimate.memory.workspaces.cpu import rules as cpu
from torchgauge.estimate.memory.workspaces.cuda import attention, convolution, kernels
from torchgauge.estimate.memory.workspaces.platform import Platform, Rules, Workspaces

_EVERYWHERE: Rules = {**composed.RULES, **losses.RULES}
_CUDA: Rules = {**attention.RULES, **convolution.RULES, **kernels.RULES, **matrices.RULES}
_RULES = {"cpu": {**cpu.RULES, **_EVERYWHERE}, "cuda": {**_CUDA, **_EVERYWHERE}}


def workspaces_for(platform: Platform) -> Workspaces:
    """Return the function that gives the workspaces of an op on that platform."""
    return Workspaces(rules=_RULES.get(platform.type, {}), platform=platform)
