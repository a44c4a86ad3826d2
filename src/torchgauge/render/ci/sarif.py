"""A check as SARIF 2.1.0, which code scanning reads.

Source: OASIS, Static Analysis Results Interchange Format 2.1.0, §3.13 to §3.30.
"""

from __future__ import annotations

import json
from urllib.parse import quote

from torchgauge.facts.loop.check import CheckReport
from torchgauge.language import translated
from torchgauge.render.ci.findings import DESCRIPTIONS, Finding, findings_of
from torchgauge.render.ci.gitlab import fingerprint

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def render(report: CheckReport) -> str:
    """Return the log of one run, with a result for each thing that is wrong."""
    rules = [
        {"id": key, "shortDescription": {"text": translated(text)}}
        for key, text in DESCRIPTIONS.items()
    ]
    order = list(DESCRIPTIONS)
    driver = {"name": "torchgauge", "version": report.tool_version, "rules": rules}
    results = [_result(report, item, order.index(item.key)) for item in findings_of(report)]
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": report.exit_status < 2}],
        "results": results,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _result(report: CheckReport, finding: Finding, rule: int) -> dict[str, object]:
    place = {
        "artifactLocation": {"uri": quote(report.config)},
        "region": {"startLine": finding.line},
    }
    return {
        "ruleId": finding.key,
        "ruleIndex": rule,
        "level": "error",
        "message": {"text": "\n".join(finding.lines)},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"torchgauge/v1": fingerprint(report, finding)},
    }
