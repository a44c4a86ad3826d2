"""Scratch memory of CPU kernels that goes through PyTorch's allocator."""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.cpu import (
    attention,
    convolution,
    decompositions,
    kernels,
    matrices,
    norms,
    pooling,
    recurrent,
    scalars,
)
from torchgauge.estimate.memory.workspaces.platform import Rules

_FAMILIES = (
    attention, convolution, decompositions, kernels, norms, pooling, recurrent, scalars, matrices,
)  # fmt: skip
RULES: Rules = {name: rule for family in _FAMILIES for name, rule in family.RULES.items()}
