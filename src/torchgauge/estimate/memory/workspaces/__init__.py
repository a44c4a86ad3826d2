"""What kernels allocate for themselves: a rule per operator and device.

A rule takes an ``OpRecord`` and returns the bytes of the blocks that are alive together inside
the kernel and gone when it returns. Each rule names its source.
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.placement import placed, placed_workspaces
from torchgauge.estimate.memory.workspaces.platform import Platform, Workspaces
from torchgauge.estimate.memory.workspaces.rules import workspaces_for

__all__ = ["Platform", "Workspaces", "placed", "placed_workspaces", "workspaces_for"]
