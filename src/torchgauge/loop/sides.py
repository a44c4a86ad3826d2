"""The two sides of a comparison: a saved report, a model spec, or one at a git revision."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torchgauge.compare.reports import compare_reports
from torchgauge.errors import ModelError, UsageError
from torchgauge.facts.fit import Verdict
from torchgauge.facts.io import load_step
from torchgauge.facts.loop.comparison import Comparison
from torchgauge.facts.report import Report
from torchgauge.facts.trace import Trace
from torchgauge.request import Progress, Request

_SAVED = (".json", ".gauge")
_LIBRARIES = ("torchvision:", "timm:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side: what was named, and how it is asked where it is a model."""

    text: str
    request: Request | None
    """``None`` for a saved report."""
    revision: str = ""
    """The git revision that the model is built from; ``""`` for the files as they are."""
    rules: tuple[str, ...] = ()
    """Rules of the advisor whose changes are made in it."""


def is_saved(text: str) -> bool:
    """Return whether a side names a saved report or trace.

    >>> is_saved("before.json"), is_saved("hf:model/config.json"), is_saved("torchvision:resnet50")
    (True, False, False)
    """
    return text.endswith(_SAVED) and not text.startswith("hf:")


def split_revision(text: str) -> tuple[str, str]:
    """Return a model spec and its revision.

    >>> split_revision("model.py:Net@main"), split_revision("model.py:Net(name='a@b')")
    (('model.py:Net', 'main'), ("model.py:Net(name='a@b')", ''))
    """
    match = re.fullmatch(r"([^@]*(?:\([^@]*\))?)@([^@()\s]+)", text)
    return (match[1], match[2]) if match else (text, "")


def side_of(text: str, request_for: Callable[[str, bool], Request]) -> Side:
    """Return a side; ``request_for`` makes the request of a spec, and is told whether it is here.

    Raises:
        ModelSpecError: it is not a saved report, and not a model spec.
        UsageError: a revision of what is not in a repository.
    """
    if is_saved(text):
        return Side(text=text, request=None)
    spec, revision = split_revision(text)
    if revision and spec.startswith(_LIBRARIES):
        raise UsageError(
            f"{spec} is not a file of a repository, so it has no revision {revision}",
            hint="leave the revision out, or name a file: model.py:Net@main",
        )
    return Side(text=text, request=request_for(spec, not revision), revision=revision)


def compare_sides(
    before: Side, after: Side, on_progress: Progress | None = None
) -> tuple[Report, Report, Comparison]:
    """Analyse what is not saved yet, and compare; return both reports too.

    Where the second no longer fits, its largest batch is looked for.

    Raises:
        TorchGaugeError: whatever is wrong with a side. A model that fails is compared up to there.
    """
    first, second = (report_of(side, on_progress) for side in (before, after))
    found = compare_reports(first, second)
    verdict = found.verdict
    lost = verdict is not None and verdict.after == Verdict.DOES_NOT_FIT
    as_it_is = not after.revision and not after.rules
    if verdict is not None and lost and after.request is not None and as_it_is:
        largest = _largest_batch(_told(after.request, on_progress))
        found = replace(found, verdict=replace(verdict, largest_batch=largest))
    return first, second, found


def report_of(side: Side, on_progress: Progress | None = None) -> Report:
    """Return the report of one side; that of a model that fails ends at the layer.

    Raises:
        TorchGaugeError: whatever is wrong with it.
    """
    if side.request is None:
        answer = load_step(Path(side.text))
        if isinstance(answer, Trace):
            from torchgauge.reports import estimate_trace

            return estimate_trace(answer)
        return answer
    request = _told(side.request, on_progress)
    if side.revision:
        if side.rules:
            raise UsageError(
                "a rule changes the files as they are, not a revision",
                hint="check out the revision, or leave the rule out",
            )
        from torchgauge.loop.revisions import report_at

        return report_at(request, side.revision)
    return analyzed(request, side.rules)


def analyzed(request: Request, rules: tuple[str, ...] = ()) -> Report:
    """Build the model of a request and analyse it; one that fails is analysed up to there.

    ``rules`` are those of the advisor whose changes are made first.

    Raises:
        TorchGaugeError: whatever is wrong with the request.
    """
    from torchgauge.analyze import analyze_model
    from torchgauge.models.requests import build_for, with_build

    try:
        request = with_build(request, build_for(request))
        if rules:
            from torchgauge.advise.named import with_rules

            request = with_rules(request, rules)
        return analyze_model(request)
    except ModelError as error:
        if isinstance(error.report, Report):
            return error.report
        raise


def _told(request: Request, on_progress: Progress | None) -> Request:
    return request if on_progress is None else replace(request, on_progress=on_progress)


def _largest_batch(request: Request) -> int | None:
    from torchgauge.fit.finder import FitOptions, fit_model
    from torchgauge.models.requests import build_for, with_build

    asked = with_build(request, build_for(request))
    options = FitOptions(search=True, alternatives=False)
    largest = fit_model(asked, [request.scenario.device], options).largest_batch
    return None if largest is None else largest.safe or largest.runs
