"""Scratch memory of CPU kernels that goes through PyTorch's allocator."""

from __future__ import annotations

from torchgauge.estimate.workspaces.target import Rule

RULES: dict[str, Rule] = {}
"""By operator, overload included."""
