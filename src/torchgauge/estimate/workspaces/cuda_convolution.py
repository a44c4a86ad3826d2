"""Scratch memory of cuDNN's convolutions."""

from __future__ import annotations

from torchgauge.estimate.workspaces.target import Rule

RULES: dict[str, Rule] = {}
"""By operator, overload included."""
