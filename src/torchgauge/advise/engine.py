"""Try what the rules find: apply it to a copy, trace it, prove it, keep what gains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from torch.nn.parameter import is_lazy

from torchgauge.advise.check.proof import Prover
from torchgauge.advise.figures import (
    best_gain,
    figures_of,
    gains,
    price_of,
    saved,
    side_by_side,
    suggested,
)
from torchgauge.advise.goal.combinations import Combinations, State, state_of
from torchgauge.advise.goal.front import Front, axes_of, limit_of
from torchgauge.advise.goal.goals import device_of, goal_of, is_reached, nearest_device
from torchgauge.advise.goal.search import LIMIT as SEARCH_LIMIT
from torchgauge.advise.goal.search import Search, prefixes
from torchgauge.advise.hooks import UNSEEN, seen_by_hooks
from torchgauge.advise.measured import Measured, measured, shapes_of
from torchgauge.advise.rules import ON_REQUEST, RULES, rule_of
from torchgauge.advise.rules.plan_checkpoints import NAME as PLAN
from torchgauge.advise.rules.plan_checkpoints import any_plan, is_of_memory, plan, why_none
from torchgauge.advise.subject import Subject
from torchgauge.analyze import analyze_model
from torchgauge.changes.change import Change, applied, in_shape
from torchgauge.changes.shadow import shadow
from torchgauge.errors import ModelError, TorchGaugeError, UsageError
from torchgauge.facts.fit import Verdict
from torchgauge.facts.loop.advice import (
    Accuracy,
    Advice,
    Combination,
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
    rules: tuple[str, ...] | None = None
    """All but those that take long where it is ``None``; a goal brings those in as well."""
    prove: bool = True
    """Run changed copies for real where that takes seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    change: Change
    state: State
    proof: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Advisor:
    request: Request
    options: AdviceOptions
    subject: Subject
    made: Combinations = field(init=False)
    prover: Prover = field(init=False)
    tried: list[_Tried] = field(default_factory=list)
    """What is worth showing."""
    singles: list[State] = field(default_factory=list)
    """Each change that could be made and run, also those that save nothing alone."""
    faults: list[Fault] = field(default_factory=list)
    quiet: list[Quiet] = field(default_factory=list)

    def __post_init__(self) -> None:
        report = self.subject.report
        self.prover = Prover(self.request, report.totals.param_bytes, report.totals.forward_flops)
        self.made = Combinations(
            base=State(request=self.request, figures=figures_of(report), fits=_fits(report)),
            ran=self.subject.ran,
            traced=self.traced,
            limit=limit_of(len(self.subject.trace.ops))
            if self.subject.goal is None
            else SEARCH_LIMIT,
            anew=self.planned,
        )

    def traced(self, request: Request, what: str) -> Measured:
        """Trace a step, and tell of it."""
        self.subject.traces.say(what)
        return measured(request)

    def planned(self, request: Request, what: str) -> Change | None:
        """Trace a step, and return what to recompute in it so that it reaches the goal."""
        self.subject.traces.say(what)
        return plan(request, analyze_model(request), self.subject.goal, self.subject.traces)

    def any_plan(self, rules: Sequence[str]) -> Change | None:
        """Return the plan for a search: that of the step as it is, or one that is to be made."""
        alone = (state.changes[0] for state in self.singles if state.changes[0].follows)
        if (found := next(alone, None)) is not None:
            return found
        is_useful = PLAN in rules and is_of_memory(self.subject.goal) and not why_none(self.subject)
        return any_plan() if is_useful else None

    def look(self, rules: Sequence[str]) -> bool:
        """Ask the rules and try what they find; return whether anything could be tried."""
        before = len(self.singles)
        for name in rules:
            whys: list[str] = []
            found = False
            self.request.tell(f"rule {name}")
            for item in rule_of(name).look(self.subject):
                if isinstance(item, Fault):
                    self.faults.append(item)
                    found = True
                elif isinstance(item, str):
                    whys.append(item)
                elif why := self.why_not(item):
                    whys.append(why)
                else:
                    found = True
            if not found or whys:
                why = "; ".join(dict.fromkeys(whys)) or "the model has nothing of the kind"
                self.quiet.append(Quiet(rule=name, why=why))
        return len(self.singles) > before

    def why_not(self, change: Change) -> str:
        """Apply, trace and prove a change; return why it is not shown, ``""`` where it is."""
        if change.accuracy.rank > self.options.allow.rank:
            return f"{change.text}: not allowed (accuracy {change.accuracy})"
        rule, figures = rule_of(change.rule), self.made.base.figures
        if (why := _why_hooks_forbid(change, self.subject)) is not None:
            return f"{change.text}: {why}"
        try:
            request = applied(in_shape(change), self.request, rule, self.subject.ran)
            found = self.traced(request, change.text)
            if _returns_something_else(change, self.subject.report, found):
                return f"{change.text}: the output has another shape"
            state = state_of((change,), request, found)
            shows = gains(figures, state.figures)
            proof = self.prover.prove(change, rule) if self.options.prove and shows else ()
        except ModelError as error:
            return f"{change.text}: does not run: {error.message.splitlines()[0]}"
        except TorchGaugeError as error:
            return f"{change.text}: {error.message.splitlines()[0]}"
        self.made.remember(state)
        self.singles.append(state)
        if not shows:
            return f"{change.text}: saves nothing"
        self.tried.append(_Tried(change=change, state=state, proof=proof))
        return ""


def _why_hooks_forbid(change: Change, subject: Subject) -> str | None:
    """Return why a change is left alone that the user's hooks would notice."""
    if change.accuracy is not Accuracy.NONE or not change.changes_model or change.rule in UNSEEN:
        return None
    watcher = subject.watcher(*change.where)
    return None if watcher is None else seen_by_hooks(watcher)


def _returns_something_else(change: Change, before: Report, after: Measured) -> bool:
    """Return whether a changed model returns tensors of other shapes, unless that was said."""
    if not change.changes_model or not change.keeps_outputs:
        return False
    return shapes_of(before.outputs) != after.outputs


def advise_model(request: Request, options: AdviceOptions | None = None) -> Advice:
    """Return what is wrong with a model and what it could do without; see ``torchgauge.advise``.

    Raises:
        TorchGaugeError: what ``analyze`` raises, or the goal makes no sense.
    """
    with random_state_kept():  # new layers draw their weights
        return _advised(request, options or AdviceOptions())


def _advised(request: Request, options: AdviceOptions) -> Advice:
    rules = RULES if options.rules is None else options.rules
    for name in rules:
        rule_of(name)
    if (device := device_of(options.goal)) is not None:
        request = _on(request, device)
    request = replace(request, model=shadow(request.model))
    request.tell("trace 1: the step as it is")
    report = analyze_model(request)
    if not has_run(report):
        raise UsageError(
            "advice needs a step that runs, and no input was given",
            hint="add a size: (3, 224, 224), --input-size 3,224,224",
        )
    if any(is_lazy(parameter) for parameter in request.model.parameters()):
        raise UsageError(
            "the model has lazy layers that have no weights yet",
            hint="run it once on a batch, then ask again",
        )
    figures = figures_of(report)
    goal = goal_of(options.goal, figures, report.scenario.device) if options.goal else None
    subject = Subject(request=request, report=report, goal=goal)
    advisor = _Advisor(request=request, options=options, subject=subject)
    advisor.look(rules)
    way = None if goal is None else _way(advisor, goal, advisor.any_plan(rules))
    front, axes = _front(advisor) if goal is None else ((), ())
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
        path=way.steps if way is not None else (),
        reached=way.reached if way is not None else None,
        nearest=way.nearest if way is not None else "",
        front=front,
        front_axes=axes,
        combinations=advisor.made.count,
        exhausted=advisor.made.exhausted,
        quiet=tuple(advisor.quiet),
        traces=advisor.subject.traces.count,
        assumptions=report.assumptions,
        warnings=report.warnings,
        report=report,
    )


def _fits(report: Report) -> bool:
    return report.memory is not None and report.memory.verdict is Verdict.FITS


def _on(request: Request, device: str) -> Request:
    return replace(request, scenario=replace(request.scenario, device=device))


def _ranked(
    advisor: _Advisor, figures: Mapping[str, float], goal: Goal | None
) -> Iterator[Suggestion]:
    def worth(tried: _Tried) -> float:
        price = _PRICE[tried.change.accuracy]
        if goal is not None:
            return saved(goal.figure, figures, tried.state.figures) / price
        longer = price_of(figures, tried.state.figures) - 1.0
        return (best_gain(figures, tried.state.figures) - longer) / price

    for tried in sorted(advisor.tried, key=worth, reverse=True):
        yield suggested(
            tried.change,
            advisor.subject,
            side_by_side(figures, tried.state.figures),
            tried.proof,
        )


# ---------------------------------------------------------------------------- several changes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    steps: tuple[PathStep, ...] = ()
    reached: bool
    nearest: str = ""


def _way(advisor: _Advisor, goal: Goal, following: Change | None) -> _Way:
    """Return the way to a goal.

    Rules that take long are asked where the others do not lead there.
    """
    made = advisor.made
    state = Search(goal=goal, made=made, singles=advisor.singles, plan=following).run()
    reached = is_reached(goal, state.figures, state.fits)
    if not reached and advisor.options.rules is None and advisor.look(ON_REQUEST):
        made.allow(SEARCH_LIMIT)
        state = Search(goal=goal, made=made, singles=advisor.singles, plan=following).run()
        reached = is_reached(goal, state.figures, state.fits)
    nearest = ""
    if goal.device is not None and not reached:
        nearest = nearest_device(state.request, state.figures[goal.figure], advisor.traced)
    return _Way(steps=tuple(_steps(advisor, goal, state)), reached=reached, nearest=nearest)


def _steps(advisor: _Advisor, goal: Goal, state: State) -> Iterator[PathStep]:
    """Yield the steps to a state, each with its change where no suggestion is the same."""
    base = advisor.made.base
    known = {id(tried.change) for tried in advisor.tried}
    before = base.figures
    for step in prefixes(state, partial(advisor.made.together, whatever=True)):
        change = step.last
        own = None
        if id(change) not in known:
            own = suggested(change, advisor.subject, side_by_side(before, step.figures))
        yield PathStep(
            text=change.text,
            rule=change.rule,
            figures=side_by_side(base.figures, step.figures),
            reached=is_reached(goal, step.figures, step.fits),
            change=own,
        )
        before = step.figures


def _front(advisor: _Advisor) -> tuple[tuple[Combination, ...], tuple[str, ...]]:
    """Return the best combinations and the figures that they are judged by."""
    made = advisor.made
    axes = axes_of(made.base)
    singles = [state for state in advisor.singles if gains(made.base.figures, state.figures)]
    if axes is None or len(singles) < 2:
        return (), ()
    found = Front(axes=axes, made=made, singles=singles).run()
    if not any(state.changes for state in found):
        return (), ()
    return tuple(
        Combination(
            changes=tuple(change.name for change in state.changes),
            rules=tuple(change.rule for change in state.changes),
            accuracy=state.accuracy,
            figures=side_by_side(made.base.figures, state.figures),
        )
        for state in found
    ), axes
