"""A report as JSON, by the contract that other programs rely on."""

from __future__ import annotations

from dataclasses import dataclass

from torchgauge.facts.report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonRenderer:
    """Write the whole report as strict JSON; ``torchgauge.load`` reads it back."""

    indent: int | None = 2

    def render(self, report: Report) -> str:
        """Return the report as JSON."""
        return report.to_json(indent=self.indent)
