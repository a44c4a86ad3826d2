"""Scratch memory of CPU kernels that goes through PyTorch's allocator."""

from __future__ import annotations

from torchgauge.estimate.workspaces import (
    cpu_attention,
    cpu_convolution,
    cpu_kernels,
    cpu_pooling,
    cpu_recurrent,
    cpu_scalars,
    cpu_scaled_products,
    matrices,
)
from torchgauge.estimate.workspaces.target import Rule

RULES: dict[str, Rule] = {
    **cpu_attention.RULES,
    **cpu_convolution.RULES,
    **cpu_kernels.RULES,
    **cpu_pooling.RULES,
    **cpu_recurrent.RULES,
    **cpu_scalars.RULES,
    **cpu_scaled_products.RULES,
    **matrices.RULES,
}
"""By operator, overload included."""
