"""Solve, trace the plan, correct what was off, and solve again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from torchgauge.analyze import analyze_model
from torchgauge.changes.traces import Traces
from torchgauge.checkpoints.goal import figure_of, is_met
from torchgauge.checkpoints.program import Program, Row
from torchgauge.checkpoints.solver import TOLERANCE_BYTES, Solution, least_cost, least_memory
from torchgauge.checkpoints.step.options import Option
from torchgauge.errors import ModelError
from torchgauge.facts.loop.checkpoints import Least, MemoryGoal
from torchgauge.facts.report import Report
from torchgauge.request import Request

_ATTEMPTS: Final = 24
"""Limits that are tried at most; several may lead to one plan."""
_FAILURES: Final = 8
"""Plans that may fail before the planner gives up."""
_NEAR: Final = 0.005
"""Share of the goal that is not worth another plan."""


@dataclass(slots=True, kw_only=True)
class Planner:
    """A step, its goal, and the program of what could be recomputed."""

    request: Request
    report: Report
    goal: MemoryGoal
    least: Least
    options: list[Option]
    refused: tuple[str, ...]
    """Modules whose forward cannot be run twice."""
    program: Program
    traces: Traces
    rounds: int = 8
    """Plans that are traced at most."""
    broken: list[str] = field(default_factory=list)
    """Places that failed when they were run again."""
    last: frozenset[int] = frozenset()
    """What was traced last."""

    def traced(self, chosen: frozenset[int]) -> Report:
        """Trace a plan.

        Raises:
            ModelError: it does not run.
        """
        self.last = chosen
        places = self.places(chosen)
        self.traces.say(f"{len(places)} places recomputed")
        scenario = replace(self.request.scenario, checkpointed=places)
        return analyze_model(replace(self.request, scenario=scenario))

    def leave_out(self, error: ModelError) -> bool:
        """Exclude what failed when it ran again, and all that is of its class.

        Returns whether anything that was chosen holds the layer that failed.
        """
        failure = None if error.report is None else error.report.failure
        if failure is None:
            return False
        last = [self.options[n] for n in self.last]
        chosen = [option for option in last if _holds(option, failure.path)]
        # With kept outputs more fails, and in the backward of another layer: an operator that runs
        # more often the second time, or an output written into since. So these are blamed first.
        kept = [option for option in chosen if option.kept] or [o for o in last if o.kept]
        guilty, only_kept = kept or chosen, bool(kept)
        candidates = [option.candidate for option in guilty]
        kinds = {item.type for item in candidates if not item.place.is_stretch}
        excluded = [
            number
            for number, option in enumerate(self.options)
            if (option.kept or not only_kept)
            and (
                option.candidate in candidates
                or (option.candidate.type in kinds and not option.candidate.place.is_stretch)
            )
        ]
        rules = (*self.program.rules, *(Row(terms={n: 1.0}, upper=0.0) for n in excluded))
        self.program = replace(self.program, rules=rules)
        if not only_kept:
            places = [str(self.options[number].candidate.place) for number in excluded]
            self.broken += dict.fromkeys(places)
        return bool(guilty)

    def chosen(self, numbers: frozenset[int]) -> list[Option]:
        """Return options by their numbers, in the order of the forward."""
        found = [self.options[number] for number in numbers]
        return sorted(found, key=lambda option: option.candidate.spans[0].first_call)

    def places(self, numbers: frozenset[int]) -> tuple[str, ...]:
        """Return what some options recompute, as a scenario names it."""
        return tuple(str(option.place) for option in self.chosen(numbers))


def _holds(option: Option, path: str) -> bool:
    """Return whether a layer is what an option recomputes, or inside of it."""
    place = option.candidate.place
    if not place.is_stretch:
        return f"{path}.".startswith(f"{place.path}.")
    prefix = f"{place.path}." if place.path else ""
    name = path.removeprefix(prefix).partition(".")[0]
    is_child = path.startswith(prefix) and name.isdecimal()
    return is_child and place.first <= int(name) < place.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A plan that was traced."""

    chosen: frozenset[int]
    report: Report
    fits: bool
    gap: float | None = None
    """How far its cost may lie above the least, as a share; ``None`` where nothing is proven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """A plan that was traced, and the limit of the program that it is the best for."""

    solution: Solution
    limit: int
    peak: int
    above: int
    """How far the trace lies above the program's peak."""
    report: Report
    met: bool


def search(planner: Planner) -> Found:
    """Return the cheapest plan that meets the goal, of those that run.

    Where a module does something else when it runs again, as with a list that has grown since, it
    is left out with all modules of its class, and the search begins anew.

    Raises:
        ModelError: a plan fails outside of what it recomputes.
    """
    for _ in range(_FAILURES):
        try:
            return _search(planner)
        except ModelError as error:
            if not planner.leave_out(error):
                raise
    return _search(planner)


def _search(planner: Planner) -> Found:
    """Solve and trace until a plan meets the goal and none that is cheaper is to be expected.

    The program knows tensors; allocators round and fragment, and kernels take scratch memory. So
    the limit of the program is moved: by how far the trace of a plan lies above the program, and,
    where that leads nowhere, half way between a limit that is low enough and one that is not.
    """
    if is_met(planner.goal, planner.report):
        return Found(chosen=frozenset(), report=planner.report, fits=True, gap=0.0)
    tried: list[_Tried] = []
    program, most = planner.program, planner.goal.most_bytes
    high = program.peak_bytes(frozenset())  # a limit that is too high
    low: int | None = None  # and one that is not
    limit = min(most - (figure_of(planner.goal, planner.report) - high), high - 1)
    for _ in range(_ATTEMPTS):
        if len(tried) == planner.rounds:
            break
        planner.request.tell("choosing what to recompute")
        solution = least_cost(program, limit)
        if solution is None and low is not None:
            break
        known = next((t for t in tried if solution and t.solution.chosen == solution.chosen), None)
        if known is None:
            known = _smallest(planner) if solution is None else _try(planner, solution, limit)
            tried.append(known)
        if solution is None and not known.met:
            return _found(planner, tried)
        if known.met:
            low = max(known.peak if solution is None else limit, low or 0)
        else:
            high = min(high, max(known.peak, limit))
        if low is not None and high - low <= _NEAR * most:
            break
        corrected = most - known.above
        if known.met and corrected <= limit + _NEAR * most and solution is not None:
            break
        if not known.met:  # at a limit that much lower the solver cannot return it again
            corrected = min(corrected, known.peak - TOLERANCE_BYTES - 1)
        is_between = (low or 0) < corrected < high
        limit = corrected if is_between else ((low or 0) + high) // 2
    if not any(t.met for t in tried):
        tried.append(_smallest(planner))
    return _found(planner, tried)


def _try(planner: Planner, solution: Solution, limit: int) -> _Tried:
    report = planner.traced(solution.chosen)
    peak = planner.program.peak_bytes(solution.chosen)
    return _Tried(
        solution=solution,
        limit=limit,
        peak=peak,
        above=figure_of(planner.goal, report) - peak,
        report=report,
        met=is_met(planner.goal, report),
    )


def _smallest(planner: Planner) -> _Tried:
    """Trace the plan of least memory, of those the cheapest."""
    planner.request.tell("looking for the least memory")
    least = least_memory(planner.program)
    limit = planner.program.peak_bytes(least.chosen)
    return _try(planner, least_cost(planner.program, limit) or least, limit)


def _found(planner: Planner, tried: list[_Tried]) -> Found:
    """Return the cheapest plan that meets the goal, else the one of least memory."""
    program, goal = planner.program, planner.goal
    met = [item for item in tried if item.met]
    if not met:
        least = min(tried, key=lambda item: figure_of(goal, item.report))
        return Found(chosen=least.solution.chosen, report=least.report, fits=False)
    best = min(met, key=lambda item: program.cost(item.solution.chosen))
    # No plan that the program puts above this would have met the goal, as far as was seen.
    highest = goal.most_bytes - min(item.above for item in tried)
    is_proven = highest <= best.limit + _NEAR * goal.most_bytes
    return Found(
        chosen=best.solution.chosen,
        report=best.report,
        fits=True,
        gap=best.solution.gap if is_proven else None,
    )
