"""Try what the rules find: apply it to a copy, trace it, prove it, keep what gains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from torchgauge.advise.change import Change, applied
from torchgauge.advise.figures import best_gain, figures_of, gains, side_by_side, suggested
from torchgauge.advise.goals import device_of, goal_of, is_reached, nearest_device
from torchgauge.advise.proof import Prover
from torchgauge.advise.rules import RULES, rule_of
from torchgauge.advise.subject import Subject
from torchgauge.analyze import analyze_model
from torchgauge.errors import ModelError, TorchGaugeError, UsageError
from torchgauge.facts.loop.advice import (
    Accuracy,
    Advice,
    Fault,
    Goal,
    PathStep,
    Quiet,
    Suggestion,
)
from torchgauge.facts.query import has_run
from torchgauge.facts.report import Report
from torchgauge.request import Request
from torchgauge.trace.isolate.isolation import random_state_kept
from torchgauge.version import __version__

_PRICE = {Accuracy.NONE: 1.0, Accuracy.SMALL: 1.5, Accuracy.RETRAIN: 4.0}
"""What a gain is divided by when suggestions are ranked: training again costs most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceOptions:
    """What is asked of the advisor."""

    goal: str | None = None
    allow: Accuracy = Accuracy.RETRAIN
    """How far changes may go."""
    rules: tuple[str, ...] = RULES
    prove: bool = True
    """Run changed copies for real where that takes seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    change: Change
    figures: Mapping[str, float]
    proof: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Advisor:
    request: Request
    options: AdviceOptions
    subject: Subject
    traces: int = 1
    tried: list[_Tried] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    quiet: list[Quiet] = field(default_factory=list)

    def traced(self, request: Request, what: str) -> Report:
        """Trace a step, and tell of it."""
        self.traces += 1
        self.request.tell(f"trace {self.traces}: {what}")
        return analyze_model(request)


def advise_model(request: Request, options: AdviceOptions | None = None) -> Advice:
    """Return what is wrong with a model and what it could do without; see ``torchgauge.advise``.

    Raises:
        TorchGaugeError: what ``analyze`` raises, or the goal makes no sense.
    """
    with random_state_kept():  # new layers draw their weights
        return _advised(request, options or AdviceOptions())


def _advised(request: Request, options: AdviceOptions) -> Advice:
    for name in options.rules:
        rule_of(name)
    if (device := device_of(options.goal)) is not None:
        request = _on(request, device)
    request.tell("trace 1: the step as it is")
    report = analyze_model(request)
    if not has_run(report):
        raise UsageError(
            "advice needs a step that runs, and no input was given",
            hint="add a size: (3, 224, 224), --input-size 3,224,224",
        )
    figures = figures_of(report)
    goal = goal_of(options.goal, figures, report.scenario.device) if options.goal else None
    subject = Subject(request=request, report=report)
    advisor = _Advisor(request=request, options=options, subject=subject)
    _look(advisor, figures)
    way = _way(advisor, goal, report, figures) if goal is not None else _Way(reached=None)
    return Advice(
        tool_version=__version__,
        torch_version=report.torch_version,
        model_name=report.model_name,
        model_spec=request.spec,
        scenario=report.scenario,
        batch_size=report.batch_size,
        figures=figures,
        faults=tuple(advisor.faults),
        suggestions=tuple(_ranked(advisor, figures, goal)),
        goal=goal,
        path=way.steps,
        reached=way.reached,
        nearest=way.nearest,
        quiet=tuple(advisor.quiet),
        traces=advisor.traces,
        assumptions=report.assumptions,
        warnings=report.warnings,
        report=report,
    )


def _on(request: Request, device: str) -> Request:
    return replace(request, scenario=replace(request.scenario, device=device))


# ---------------------------------------------------------------------------- looking and trying


def _look(advisor: _Advisor, figures: Mapping[str, float]) -> None:
    totals = advisor.subject.report.totals
    prover = Prover(advisor.request, totals.param_bytes, totals.forward_flops)
    for name in advisor.options.rules:
        whys: list[str] = []
        found = False
        for item in rule_of(name).look(advisor.subject):
            if isinstance(item, Fault):
                advisor.faults.append(item)
                found = True
            elif isinstance(item, str):
                whys.append(item)
            elif why := _try(advisor, item, figures, prover):
                whys.append(why)
            else:
                found = True
        if not found or whys:
            why = "; ".join(dict.fromkeys(whys)) or "the model has nothing of the kind"
            advisor.quiet.append(Quiet(rule=name, why=why))


def _try(advisor: _Advisor, change: Change, figures: Mapping[str, float], prover: Prover) -> str:
    """Apply, trace and prove a change; return why it is not shown, ``""`` where it is."""
    if change.accuracy.rank > advisor.options.allow.rank:
        return f"{change.text}: not allowed (accuracy {change.accuracy})"
    rule = rule_of(change.rule)
    try:
        after = figures_of(advisor.traced(applied(change, advisor.request, rule), change.text))
        if not gains(figures, after):
            return f"{change.text}: saves nothing"
        proof = prover.prove(change, rule) if advisor.options.prove else ()
    except ModelError as error:
        return f"{change.text}: does not run: {error.message.splitlines()[0]}"
    except TorchGaugeError as error:
        return f"{change.text}: {error.message.splitlines()[0]}"
    advisor.tried.append(_Tried(change=change, figures=after, proof=proof))
    return ""


def _ranked(
    advisor: _Advisor, figures: Mapping[str, float], goal: Goal | None
) -> Iterator[Suggestion]:
    def worth(tried: _Tried) -> float:
        price = _PRICE[tried.change.accuracy]
        if goal is not None:
            return _saved(goal.figure, figures, tried.figures) / price
        return best_gain(figures, tried.figures) / price

    for tried in sorted(advisor.tried, key=worth, reverse=True):
        yield suggested(
            tried.change, advisor.subject, side_by_side(figures, tried.figures), tried.proof
        )


def _saved(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> float:
    now = before.get(name)
    return 1.0 - after.get(name, now) / now if now else 0.0


# ---------------------------------------------------------------------------- the way to a goal


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    steps: tuple[PathStep, ...] = ()
    reached: bool | None
    nearest: str = ""


def _way(advisor: _Advisor, goal: Goal, report: Report, figures: Mapping[str, float]) -> _Way:
    """Take one change after another, each measured with those before it, until it is enough.

    Changes that cost less accuracy come first; among them the one that saves most of what is left.
    """
    if is_reached(goal, report, figures):
        return _Way(reached=True)
    steps: list[PathStep] = []
    request, now, reached = advisor.request, dict(figures), False
    taken: set[str] = set()
    for accuracy in Accuracy:
        waiting = [item for item in advisor.tried if item.change.accuracy is accuracy]
        waiting.sort(key=lambda item: -_saved(goal.figure, figures, item.figures))
        for item in waiting:
            change = item.change
            helps = _saved(goal.figure, figures, item.figures) > 0
            if reached or not helps or (change.axis and change.axis in taken):
                continue
            tried = _further(advisor, request, change, goal, now)
            if tried is None:
                continue
            request, after_report, after = tried
            now = dict(after)
            taken.add(change.axis)
            reached = is_reached(goal, after_report, after)
            steps.append(
                PathStep(
                    text=change.text,
                    rule=change.rule,
                    figures=side_by_side(figures, after),
                    reached=reached,
                )
            )
    nearest = ""
    if goal.device is not None and not reached:
        nearest = nearest_device(request, now[goal.figure], advisor.traced)
    return _Way(steps=tuple(steps), reached=reached, nearest=nearest)


def _further(
    advisor: _Advisor, request: Request, change: Change, goal: Goal, now: Mapping[str, float]
) -> tuple[Request, Report, Mapping[str, float]] | None:
    """Return the request with one change more, if that brings the goal nearer."""
    try:
        changed = applied(change, request, rule_of(change.rule))
        report = advisor.traced(changed, change.text)
    except TorchGaugeError:
        return None
    after = figures_of(report)
    return (changed, report, after) if _saved(goal.figure, now, after) > 0 else None
