"""What is wrong with the environment that torch runs in, and what repairs it.

``facts`` says what was seen, ``gather`` sees it (torch only in processes of its own), ``rules``
judge it, ``page`` and ``documents`` say it. Nothing here imports torch.
"""

from __future__ import annotations

from torchgauge.environment.facts import Facts
from torchgauge.environment.findings import Diagnosis, Finding, Severity
from torchgauge.environment.gather import gather
from torchgauge.environment.rules import find
from torchgauge.environment.surroundings import Surroundings

__all__ = ["Diagnosis", "Facts", "Finding", "Severity", "Surroundings", "diagnose"]


def diagnose(
    surroundings: Surroundings, *, with_checks: bool = True, require_gpu: bool = False
) -> Diagnosis:
    """Return what is wrong with an environment.

    Args:
        surroundings: which one; ``Surroundings.here()`` for this machine and interpreter.
        with_checks: compute on each device, too: some seconds each.
        require_gpu: that no GPU can be used is an error.
    """
    facts = gather(surroundings, with_checks=with_checks)
    return Diagnosis(facts=facts, findings=find(facts, require_gpu=require_gpu))
