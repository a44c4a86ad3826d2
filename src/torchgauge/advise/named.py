"""What a rule would change, made without weighing it: for a comparison with the model as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torchgauge.advise.rules import rule_of
from torchgauge.advise.subject import Subject
from torchgauge.analyze import analyze_model
from torchgauge.changes.change import Change, applied
from torchgauge.changes.shadow import shadow
from torchgauge.errors import UsageError
from torchgauge.request import Request
from torchgauge.trace.isolate.isolation import random_state_kept


def with_rules(request: Request, names: Sequence[str]) -> Request:
    """Return the request with what each rule would change, one on top of the other.

    Raises:
        UsageError: there is no such rule, or it finds nothing to change.
        TorchGaugeError: what ``analyze`` raises.
    """
    for name in names:
        rule_of(name)
    request = replace(request, model=shadow(request.model))
    with random_state_kept():  # new layers draw their weights
        for name in names:
            request = _with_rule(request, name)
    return request


def _with_rule(request: Request, name: str) -> Request:
    rule = rule_of(name)
    request.tell(f"rule {name}")
    subject = Subject(request=request, report=analyze_model(request))
    found = list(rule.look(subject))
    changes = list(_first_of_each_axis(item for item in found if isinstance(item, Change)))
    if not changes:
        whys = [item for item in found if isinstance(item, str)]
        why = "; ".join(whys) or "the model has nothing of the kind"
        raise UsageError(f"{name} changes nothing: {why}", hint="leave it out")
    for change in changes:
        request = applied(change, request, rule, subject.ran)
    return request


def _first_of_each_axis(changes: Iterator[Change]) -> Iterator[Change]:
    taken: set[str] = set()
    for change in changes:
        if not change.axis or change.axis not in taken:
            taken.add(change.axis)
            yield change
