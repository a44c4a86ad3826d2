"""A diagnosis as JSON, to attach to a bug report or to be read by a program."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

from torchgauge.environment.findings import Diagnosis, Finding

SCHEMA_VERSION: Final = 1


def render_json(diagnosis: Diagnosis) -> str:
    """Return everything that was seen and found."""
    from torchgauge.version import __version__

    content = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "torchgauge", "version": __version__},
        "healthy": diagnosis.is_healthy,
        "findings": [_finding(finding) for finding in diagnosis.findings],
        "facts": dataclasses.asdict(diagnosis.facts),
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _finding(finding: Finding) -> dict[str, Any]:
    fields = dataclasses.asdict(finding)
    del fields["explains_gpu"]  # how rules work together, not what is wrong
    return fields
