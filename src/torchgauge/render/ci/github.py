"""A check as workflow commands of GitHub Actions: annotations on the lines of the budgets.

Source: docs.github.com, "Workflow commands for GitHub Actions", setting an error message.
"""

from __future__ import annotations

from torchgauge.facts.loop.check import CheckReport, Outcome
from torchgauge.language import translated
from torchgauge.render.ci.findings import findings_of, one_line
from torchgauge.render.pages.loop.check import headline, sentence


def render(report: CheckReport) -> str:
    """Return a command for each thing that is wrong, after plain lines for the log."""
    lines = [
        f"{limit.outcome}  {one_line(model.name)}: {translated(one_line(sentence(limit)))}"
        for model in report.models
        for limit in model.limits
        if limit.outcome is Outcome.OK
    ]
    for finding in findings_of(report):
        title = ": ".join(("torchgauge", finding.model, finding.key))
        place = f"file={_property(report.config)},line={finding.line},title={_property(title)}"
        lines.append(f"::error {place}::{_data(chr(10).join(finding.lines))}")
    return "\n".join((*lines, f"torchgauge: {translated(headline(report))}"))


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
