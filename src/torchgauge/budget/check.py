"""Budgets → ``CheckReport``: every model analysed in a worker, then held against its limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torchgauge.budget.baselines import read_baseline, settings_changed, write_baseline
from torchgauge.budget.limits import FITS, Limit
from torchgauge.budget.verdicts import Baseline, checked, doubts_of
from torchgauge.compare.reports import compare_reports
from torchgauge.errors import ReportFormatError, UsageError
from torchgauge.facts.loop.check import CheckReport, ModelCheck
from torchgauge.facts.loop.comparison import Comparison
from torchgauge.facts.report import Report
from torchgauge.loop.revisions import Checkout, answers_at, checkout
from torchgauge.loop.worker import Answered, Task
from torchgauge.loop.workers import Place, answer_all
from torchgauge.request import Progress, Request
from torchgauge.version import __version__


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One model and its limits."""

    name: str
    line: int
    request: Request
    limits: tuple[Limit, ...]
    baseline: Path
    """The saved report that relative limits are held against."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Return the devices on which it must fit."""
        return tuple(name for item in self.limits if item.key == FITS for name in item.devices)

    @property
    def task(self) -> Task:
        """Return what a worker is asked."""
        return Task(request=self.request, fits=self.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """How budgets are checked."""

    folder: Path
    """The folder that specs start from."""
    config: str
    """What the file of the budgets is called in the answer."""
    jobs: int | None = None
    update_baseline: bool = False
    base: str | None = None
    """A revision to compare with."""
    base_requests: Callable[[Checkout], dict[str, Request]] = field(default=lambda _: {})
    """Returns the models that the base has in its own file of budgets, by name."""
    on_progress: Progress | None = None


def check_budgets(budgets: Sequence[Budget], options: CheckOptions) -> CheckReport:
    """Analyse the models side by side, and hold each against its limits.

    Raises:
        UsageError: there is no such base revision, or a baseline cannot be written.
    """
    tell = options.on_progress or (lambda text: None)
    left = {budget.name for budget in budgets}

    def done(index: int, answered: Answered) -> None:
        left.discard(budgets[index].name)
        if left:
            tell(f"analysing {', '.join(sorted(left)[:3])} ({len(left)} of {len(budgets)} left)")

    tell(f"analysing {len(budgets)} models")
    tasks = [budget.task for budget in budgets]
    place = Place(folder=options.folder)
    answers = answer_all(tasks, place, jobs=options.jobs, on_done=done)
    if options.update_baseline:
        for budget, answered in zip(budgets, answers, strict=True):
            if answered.report is not None and not answered.error:
                write_baseline(budget.baseline, answered.report)
    bases = _base_answers(budgets, options)
    return CheckReport(
        tool_version=__version__,
        config=options.config,
        base=options.base,
        models=tuple(
            _model_check(budget, answered, bases.get(budget.name), options)
            for budget, answered in zip(budgets, answers, strict=True)
        ),
    )


def _model_check(
    budget: Budget, answered: Answered, base: Answered | None, options: CheckOptions
) -> ModelCheck:
    assert budget.request.spec is not None
    found = ModelCheck(name=budget.name, spec=budget.request.spec, line=budget.line)
    if answered.error or answered.report is None:
        return replace(
            found, error=answered.error, hint=answered.hint, error_status=answered.exit_status
        )
    report = answered.report
    baseline = _baseline(budget)
    comparison, notes = _comparison(base, report, options.base)
    return replace(
        found,
        limits=tuple(checked(budget.limits, answered, baseline)),
        doubts=tuple(doubts_of(report)),
        notes=notes,
        comparison=comparison,
    )


def _comparison(
    base: Answered | None, report: Report, revision: str | None
) -> tuple[Comparison | None, tuple[str, ...]]:
    """Return what changed since the base, and what is to be said of that."""
    if base is None:
        return None, ()
    if base.error or base.report is None:
        return None, (f"nothing to compare with at {revision}: {base.error}",)
    changed = ", ".join(settings_changed(base.report, report))
    notes = (f"different settings at {revision}: {changed}",) if changed else ()
    return compare_reports(base.report, report), notes


def _base_answers(budgets: Sequence[Budget], options: CheckOptions) -> dict[str, Answered]:
    """Return the answers at the base revision, each by the base's own file where that has it."""
    if options.base is None:
        return {}
    if options.on_progress is not None:
        options.on_progress(f"analysing the models at {options.base}")
    with checkout(options.base, options.folder) as there:
        theirs = options.base_requests(there)
        tasks = [Task(request=theirs.get(item.name, item.request)) for item in budgets]
        try:
            answers = answers_at(there, tasks, options.folder, jobs=options.jobs)
        except UsageError as error:  # the base does not have the folder
            answers = [
                Answered(error=error.message, exit_status=error.exit_status) for _ in budgets
            ]
    return {item.name: answered for item, answered in zip(budgets, answers, strict=True)}


def _baseline(budget: Budget) -> Baseline:
    """Return the baseline, read only where a limit is relative to it."""
    hint = f"torchgauge check {budget.name} --update-baseline, and commit {budget.baseline.name}"
    if not any(limit.is_relative for limit in budget.limits):
        return Baseline()
    if not budget.baseline.is_file():
        place = f"{budget.baseline.parent.name}/{budget.baseline.name}"
        return Baseline(lacking=f"there is no baseline {place}", hint=hint)
    try:
        return Baseline(report=read_baseline(budget.baseline), hint=hint)
    except ReportFormatError as error:
        return Baseline(lacking=error.message, hint=hint)
