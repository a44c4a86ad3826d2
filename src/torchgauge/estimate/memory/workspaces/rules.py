"""The choice of the rules for a platform, and how they are called."""

from __future__ import annotations

from torchgauge.devices.tables import function_of, rows_beside
from torchgauge.estimate.memory.workspaces.platform import Platform, Rule, Rules, Workspaces


def rule_of(text: str) -> Rule:
    """Return the rule that a cell names, or the sum of several."""
    parts: list[Rule] = [function_of(__package__, part) for part in text.split(" + ")]
    return parts[0] if len(parts) == 1 else lambda op, on: sum((part(op, on) for part in parts), ())


_RULES: dict[str, Rules] = {
    device: {row["operator"]: rule_of(row[device]) for row in rows_beside(__file__) if row[device]}
    for device in ("cpu", "cuda")
}


def workspaces_for(platform: Platform) -> Workspaces:
    """Return the function that gives the workspaces of an op on that platform."""
    return Workspaces(rules=_RULES.get(platform.type, {}), platform=platform)
