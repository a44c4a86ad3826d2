"""Solve, trace the plan, correct what was off, and solve again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from torchgauge.analyze import analyze_model
from torchgauge.checkpoints.goal import figure_of, is_met
from torchgauge.checkpoints.model import Option
from torchgauge.checkpoints.program import Program
from torchgauge.checkpoints.solver import Solution, least_cost, least_memory
from torchgauge.facts.loop.checkpoints import MemoryGoal
from torchgauge.facts.report import Report
from torchgauge.request import Request

_ROUNDS: Final = 6
"""Plans that are traced at most."""


@dataclass(slots=True, kw_only=True)
class Planner:
    """A step, its goal, and the program of what could be computed again."""

    request: Request
    report: Report
    goal: MemoryGoal
    options: list[Option]
    program: Program
    traces: int = 1

    def traced(self, chosen: frozenset[int]) -> Report:
        """Trace a plan.

        Raises:
            ModelError: it does not run.
        """
        self.traces += 1
        places = tuple(str(option.candidate.place) for option in self.chosen(chosen))
        self.request.tell(f"trace {self.traces}: {len(places)} places computed again")
        scenario = replace(self.request.scenario, checkpointed=places)
        return analyze_model(replace(self.request, scenario=scenario))

    def chosen(self, numbers: frozenset[int]) -> list[Option]:
        """Return options by their numbers, in the order of the forward."""
        found = [self.options[number] for number in numbers]
        return sorted(found, key=lambda option: option.candidate.spans[0].first_call)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A plan that was traced."""

    solution: Solution
    report: Report
    fits: bool


def search(planner: Planner) -> Found:
    """Solve and trace until a plan meets the goal and none that is cheaper is to be expected.

    The program knows tensors; allocators round, and kernels take scratch memory. How far the trace
    lies above the program is added to the next round's.
    """
    program, goal = planner.program, planner.goal
    nothing = Solution(chosen=frozenset(), gap=0.0)
    if is_met(goal, planner.report):
        return Found(solution=nothing, report=planner.report, fits=True)
    above = figure_of(goal, planner.report) - program.peak_bytes(frozenset())
    limit = goal.most_bytes - above
    best: Found | None = None
    seen: set[frozenset[int]] = set()
    for _ in range(_ROUNDS):
        planner.request.tell("choosing what to compute again")
        solution = least_cost(program, limit)
        if solution is None or solution.chosen in seen:
            break
        seen.add(solution.chosen)
        report = planner.traced(solution.chosen)
        got = figure_of(goal, report)
        peak = program.peak_bytes(solution.chosen)
        if is_met(goal, report):
            cheaper = best is None or program.cost(solution.chosen) < program.cost(
                best.solution.chosen
            )
            if cheaper:
                best = Found(solution=solution, report=report, fits=True)
            room = goal.most_bytes - (got - peak)
            if room <= limit:
                break
            limit = room
        else:
            limit = min(goal.most_bytes - (got - peak), peak - 1)
    return best or _smallest(planner, seen)


def _smallest(planner: Planner, seen: set[frozenset[int]]) -> Found:
    """Return the plan of least memory, of those the cheapest."""
    program, goal = planner.program, planner.goal
    planner.request.tell("looking for the least memory")
    solution = least_memory(program)
    cheapest = least_cost(program, program.peak_bytes(solution.chosen))
    if cheapest is not None:
        solution = cheapest
    report = planner.traced(solution.chosen)
    return Found(solution=solution, report=report, fits=is_met(goal, report))
