"""The choice of the rules for a platform, and how they are called."""

from __future__ import annotations

from torchgauge.devices.tables import function_of, rows_beside
from torchgauge.estimate.memory.workspaces.platform import Platform, Rules, Workspaces

_RULES: dict[str, Rules] = {
    device: {
        row["operator"]: function_of(__package__, row[device])
        for row in rows_beside(__file__)
        if row[device]
    }
    for device in ("cpu", "cuda")
}


def workspaces_for(platform: Platform) -> Workspaces:
    """Return the function that gives the workspaces of an op on that platform."""
    return Workspaces(rules=_RULES.get(platform.type, {}), platform=platform)
