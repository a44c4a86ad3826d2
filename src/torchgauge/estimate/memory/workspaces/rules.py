"""The choice of the rules for a platform, and how they are called."""

from __future__ import annotations

from functools import partial

from torchgauge.estimate.memory.workspaces import complex_kernels, losses, matrices
from torchgauge.estimate.memory.workspaces.cpu import rules as cpu
from torchgauge.estimate.memory.workspaces.cuda import attention, convolution, kernels
from torchgauge.estimate.memory.workspaces.platform import Platform, Rule, Workspaces
from torchgauge.facts.trace import OpRecord

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


def workspaces_for(platform: Platform, *, convolutions: int = 1) -> Workspaces:
    """Return the function that gives the workspaces of an op on that platform.

    The plan of a convolution on a GPU, the last of its blocks, is expected, not known; it is
    multiplied by ``convolutions``.
    """
    return partial(_workspaces, _RULES.get(platform.type, {}), platform, convolutions)


def _workspaces(
    rules: dict[str, Rule], platform: Platform, convolutions: int, op: OpRecord
) -> tuple[int, ...]:
    rule = rules.get(op.name)
    if rule is None:
        return ()
    sizes = rule(op, platform)
    if convolutions != 1 and sizes and "convolution" in op.name:
        sizes = (*sizes[:-1], sizes[-1] * convolutions)
    return tuple(size for size in sizes if size > 0)
