"""A check as a code quality report of GitLab: what is wrong, as a list in JSON.

Source: docs.gitlab.com, "Code Quality report format": description, check_name, fingerprint,
severity and location are required.
"""

from __future__ import annotations

import hashlib
import json

from torchgauge.facts.loop.check import CheckReport
from torchgauge.render.ci.findings import Finding, findings_of


def render(report: CheckReport) -> str:
    """Return the list; it is empty where nothing is wrong."""
    return json.dumps([_entry(report, item) for item in findings_of(report)], indent=2)


def _entry(report: CheckReport, finding: Finding) -> dict[str, object]:
    return {
        "description": " ".join(finding.lines),
        "check_name": f"torchgauge.{finding.key}",
        "fingerprint": fingerprint(report, finding),
        "severity": "blocker" if finding.is_error else "major",
        "location": {"path": report.config, "lines": {"begin": finding.line}},
    }


def fingerprint(report: CheckReport, finding: Finding) -> str:
    """Return what tells a finding from others and stays when its figures or its line change."""
    device = finding.text.partition(" fits ")[2].partition(":")[0] if finding.key == "fits" else ""
    named = "\0".join((report.config, finding.model, finding.key, device))
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()
