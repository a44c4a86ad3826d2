"""Facts → findings. A rule is a function of the facts that yields what it finds.

Rules stand in chains, from the cause to what follows from it: the first that finds an error ends
its chain, so that one fault gives one error. Chains do not know each other.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from torchgauge.environment.facts import Facts
from torchgauge.environment.findings import Finding, Severity
from torchgauge.environment.rules import (
    companions,
    driver,
    gpu,
    imports,
    known,
    packages,
    resources,
    settings,
)
from torchgauge.environment.rules.common import Rule

CHAINS: Final[tuple[tuple[Rule, ...], ...]] = (
    imports.CHAIN,
    driver.CHAIN + gpu.CHAIN,
    (gpu.failed_on_cpu,),
    *(
        (rule,)
        for part in (companions, packages, known, settings, resources)
        for rule in part.RULES
    ),
)
_LAST: Final[tuple[Rule, ...]] = gpu.UNEXPLAINED
"""What torch and the checks say by themselves: reported where nothing above explains it."""
_WITHOUT_GPU: Final = ("no-gpu", "container-without-gpus")
_ORDER: Final = tuple(Severity)


def find(facts: Facts, *, require_gpu: bool = False) -> tuple[Finding, ...]:
    """Return what is wrong, the worst first.

    ``require_gpu``: that no GPU can be used is an error, not a notice.
    """
    found: list[Finding] = []
    explained = False
    for chain in CHAINS:
        mine = _first_errors(facts, chain)
        found += mine
        explained = explained or any(finding.explains_gpu for finding in mine)
    if not explained:
        found += _first_errors(facts, _LAST)
    if require_gpu and not facts.torch.gpus:
        found = _with_gpu_required(found)
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))


def _first_errors(facts: Facts, chain: tuple[Rule, ...]) -> list[Finding]:
    found: list[Finding] = []
    for rule in chain:
        mine = list(rule(facts))
        found += mine
        if any(finding.severity is Severity.ERROR for finding in mine):
            break
    return found


def _with_gpu_required(found: list[Finding]) -> list[Finding]:
    return [
        dataclasses.replace(finding, severity=Severity.ERROR)
        if finding.name in _WITHOUT_GPU
        else finding
        for finding in found
    ]
