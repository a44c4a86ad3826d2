"""What is wrong, how bad it is, what shows it, and what repairs it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from typing import ClassVar

from torchgauge.environment.facts import Facts
from torchgauge.facts.codec.shape import Shape
from torchgauge.shown import Shown
from torchgauge.units import format_number_of
from torchgauge.version import __version__


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Something that was installed or asked for does not work; the exit status is 1."""
    WARNING = "warning"
    """Works now, and fails or is slow in common use."""
    NOTICE = "notice"
    """Worth knowing; nothing is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, or worth knowing."""

    name: str
    """Stable and for programs, such as ``driver-too-old``."""
    severity: Severity
    problem: str
    evidence: tuple[str, ...] = ()
    """What was seen that shows it."""
    fix: str = ""
    commands: tuple[str, ...] = ()
    """Commands that carry the fix out, one after the other."""
    alternative: tuple[str, ...] = ()
    """Commands of another way out, instead of ``commands``."""
    source: str = ""
    """Where the rule comes from."""
    explains_gpu: bool = False
    """Whether GPUs that torch cannot use, or on which a check fails, follow from this."""

    json: ClassVar = Shape(later=("explains_gpu",))


error = partial(Finding, severity=Severity.ERROR)
warning = partial(Finding, severity=Severity.WARNING)
notice = partial(Finding, severity=Severity.NOTICE)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Diagnosis(Shown):
    """Facts and findings, the worst first."""

    facts: Facts
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        """Return the verdict in one line."""
        counts = ((len(self.of(severity)), severity) for severity in Severity)
        told = [format_number_of(count, severity.value) for count, severity in counts if count]
        return f"PyTorch environment: {', '.join(told) or 'healthy'}"

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of a severity."""
        return tuple(finding for finding in self.findings if finding.severity is severity)

    @property
    def is_healthy(self) -> bool:
        """Whether there is no error."""
        return not self.of(Severity.ERROR)

    def to_json(self) -> str:
        """Return everything that was seen and found, for a bug report or a program."""
        findings = [asdict(finding) for finding in self.findings]
        for fields in findings:
            del fields["explains_gpu"]  # how rules work together, not what is wrong
        content = {
            "schema_version": 1,
            "tool": {"name": "torchgauge", "version": __version__},
            "healthy": self.is_healthy,
            "findings": findings,
            "facts": asdict(self.facts),
        }
        return json.dumps(content, indent=2, ensure_ascii=False)
