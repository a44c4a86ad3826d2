"""Scratch memory of CPU kernels that goes through PyTorch's allocator."""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.cpu import (
    attention,
    convolution,
    kernels,
    matrices,
    norms,
    pooling,
    recurrent,
    scalars,
)
from torchgauge.estimate.memory.workspaces.platform import Rules

RULES: Rules = {
    **attention.RULES,
    **convolution.RULES,
    **kernels.RULES,
    **norms.RULES,
    **pooling.RULES,
    **recurrent.RULES,
    **scalars.RULES,
    **matrices.RULES,
}
