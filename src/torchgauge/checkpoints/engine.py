"""Request + goal → plan: trace the step, solve, trace the plan, correct what was off, again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchgauge.analyze import analyze_model
from torchgauge.checkpoints.candidates import candidates_of
from torchgauge.checkpoints.goal import PlanOptions, figure_of, goal_of, is_met
from torchgauge.checkpoints.model import Option, StepModel
from torchgauge.checkpoints.program import Program
from torchgauge.checkpoints.snippet import snippet_of
from torchgauge.checkpoints.solver import Solution, least_cost, least_memory
from torchgauge.errors import ModelError, UsageError
from torchgauge.estimate.compute.flops import op_cost
from torchgauge.estimate.memory.lifetimes import live_bytes
from torchgauge.estimate.memory.workspaces import workspaces_for
from torchgauge.facts.loop.checkpoints import CheckpointPlan, Least, MemoryGoal, Recomputed
from torchgauge.facts.loop.comparison import Figure
from torchgauge.facts.memory import Peak
from torchgauge.facts.query import has_run
from torchgauge.facts.report import Report
from torchgauge.facts.trace import OpRecord
from torchgauge.reports import prediction_of
from torchgauge.request import Request, in_mode
from torchgauge.target import calibrated, platform_of, target_of
from torchgauge.version import __version__

FIGURES: Final = (
    "memory.peak_allocated_bytes", "memory.device_bytes", "memory.saved_activation_bytes",
    "totals.total_flops", "time.total_ms",
)  # fmt: skip
_ROUNDS: Final = 6
"""Plans that are traced at most."""
_MOST: Final = 4000
"""Options among which the solver chooses."""
_SMALLEST: Final = 1e-4
"""Share of the saved activations that an option drops at least."""
_NEAR: Final = 0.02
"""Share of the goal that may be left over without trying for a cheaper plan."""


@dataclass(slots=True, kw_only=True)
class _Planner:
    request: Request
    report: Report
    goal: MemoryGoal
    options: list[Option]
    program: Program
    traces: int = 1
    broken: set[int] = field(default_factory=set)
    """Options that failed when they were run again."""

    def traced(self, chosen: frozenset[int]) -> Report:
        """Trace a plan.

        Raises:
            ModelError: it does not run.
        """
        self.traces += 1
        places = self.places(chosen)
        self.request.tell(f"trace {self.traces}: {len(places)} places computed again")
        scenario = replace(self.request.scenario, checkpointed=places)
        return analyze_model(replace(self.request, scenario=scenario))

    def places(self, chosen: frozenset[int]) -> tuple[str, ...]:
        """Return the places of a choice, in the order of the forward."""
        options = [self.options[number] for number in chosen]
        options.sort(key=lambda option: option.candidate.spans[0].first_call)
        return tuple(str(option.candidate.place) for option in options)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    solution: Solution
    report: Report
    fits: bool


def plan_model(request: Request, options: PlanOptions) -> CheckpointPlan:
    """Return which modules to compute again; see ``torchgauge.plan_checkpoints``.

    Raises:
        TorchGaugeError: what ``analyze`` raises, the goal makes no sense, or the scenario
            checkpoints already.
    """
    request = replace(request, scenario=in_mode(request.scenario, "training"))
    if request.scenario.checkpointing:
        raise UsageError(
            "the scenario checkpoints already, and the plan decides what is checkpointed",
            hint="leave checkpointing out",
        )
    request.tell("trace 1: the step as it is")
    report = analyze_model(request)
    if not has_run(report) or report.memory is None or report.trace is None:
        raise UsageError(
            "a plan needs a step that runs, and no input was given",
            hint="add a size: (3, 224, 224), --input-size 3,224,224",
        )
    goal = goal_of(report, options)
    price, least = _price(report, options.least)
    sequentials = [path for path, module in request.model.named_modules() if _is_plain(module)]
    candidates = candidates_of(report.trace, sequentials)
    target = calibrated(target_of(request.scenario), report.trace)
    live = live_bytes(report.trace, workspaces_for(platform_of(target, report.trace)))
    model = StepModel(report.trace, live, on_cpu=target.gpu is None)
    request.tell("weighing what could be computed again")
    worth = _worthwhile(model.options(candidates.found, price), report)
    planner = _Planner(
        request=request, report=report, goal=goal, options=worth, program=model.program(worth)
    )
    found = _search(planner)
    chosen = [worth[number] for number in found.solution.chosen]
    chosen.sort(key=lambda option: option.candidate.spans[0].first_call)
    places = [option.candidate.place for option in chosen]
    return CheckpointPlan(
        tool_version=__version__,
        torch_version=report.torch_version,
        model_name=report.model_name,
        model_spec=request.spec,
        scenario=report.scenario,
        batch_size=report.batch_size,
        goal=goal,
        fits=found.fits,
        least=least,
        recomputed=tuple(map(_described, chosen)),
        figures=_side_by_side(report, found.report),
        blocks=_with_blocks(planner) if chosen else {},
        gap=found.solution.gap,
        peak_at=_peak_of(found.report),
        candidates=len(worth),
        refused=candidates.refused,
        traces=planner.traces,
        snippet=snippet_of(places, has_norms=_has_norms(request.model, places)),
        assumptions=found.report.assumptions,
        warnings=found.report.warnings,
    )


def _peak_of(report: Report) -> Peak:
    assert report.memory is not None
    return report.memory.peak_at


def _is_plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _has_norms(model: nn.Module, places: list) -> bool:
    for place in places:
        part = model.get_submodule(place.path)
        parts = list(part.children())[place.first : place.end] if place.is_stretch else [part]
        if any(isinstance(m, _BatchNorm) for item in parts for m in item.modules()):
            return True
    return False


def _described(option: Option) -> Recomputed:
    return Recomputed(
        place=str(option.candidate.place),
        type=option.candidate.type,
        dropped_bytes=option.nbytes,
        flops=option.flops,
        calls=len(option.again),
    )


def _price(
    report: Report, asked: Least | None
) -> tuple[Callable[[OpRecord], tuple[float, int]], Least]:
    """Return what running an operator again costs, and in what that is counted.

    Raises:
        UsageError: time is asked for and cannot be predicted.
    """
    seconds: defaultdict[int, float] = defaultdict(float)
    if asked is not Least.FLOPS and report.trace is not None:
        target = calibrated(target_of(report.scenario), report.trace)
        prediction = prediction_of(report.trace, target)
        for kernel in prediction.kernels if prediction is not None else ():
            seconds[kernel.op] += kernel.seconds + kernel.idle
        if asked is Least.TIME and not seconds:
            raise UsageError(
                f"no time can be predicted for {report.scenario.device}",
                hint="name a GPU (--device T4), or plan for the least FLOPs",
            )

    def price(op: OpRecord) -> tuple[float, int]:
        cost = op_cost(op)
        flops = 0 if cost is None else cost.flops
        if seconds:
            return seconds[op.index], flops
        return flops + (0 if cost is None else cost.elementwise), flops

    return price, Least.TIME if seconds else Least.FLOPS


def _worthwhile(options: list[Option], report: Report) -> list[Option]:
    """Return the options that drop something worth it; of very many those that drop most."""
    assert report.memory is not None
    least = report.memory.saved_activation_bytes * _SMALLEST
    found = [option for option in options if option.nbytes > least]
    if len(found) > _MOST:
        found = sorted(found, key=lambda option: -option.nbytes)[:_MOST]
    return found


# ---------------------------------------------------------------------------- the search


def _search(planner: _Planner) -> _Found:
    """Solve and trace until a plan meets the goal and none that is cheaper is to be expected.

    The program knows tensors; allocators round, and kernels take scratch memory. How far the trace
    lies above the program is added to the next round's.
    """
    program, goal = planner.program, planner.goal
    nothing = Solution(chosen=frozenset(), gap=0.0)
    if is_met(goal, planner.report):
        return _Found(solution=nothing, report=planner.report, fits=True)
    above = figure_of(goal, planner.report) - program.peak_bytes(frozenset())
    limit = goal.most_bytes - above
    best: _Found | None = None
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
                best = _Found(solution=solution, report=report, fits=True)
            room = goal.most_bytes - (got - peak)
            if room <= limit:
                break
            limit = room
        else:
            limit = min(goal.most_bytes - (got - peak), peak - 1)
    return best or _smallest(planner, seen)


def _smallest(planner: _Planner, seen: set[frozenset[int]]) -> _Found:
    """Return the plan of least memory, of those the cheapest."""
    program, goal = planner.program, planner.goal
    planner.request.tell("looking for the least memory")
    solution = least_memory(program)
    cheapest = least_cost(program, program.peak_bytes(solution.chosen))
    if cheapest is not None:
        solution = cheapest
    report = planner.traced(solution.chosen)
    return _Found(solution=solution, report=report, fits=is_met(goal, report))


def _with_blocks(planner: _Planner) -> dict[str, float]:
    """Return the figures with the repeated blocks checkpointed, as most recipes do it."""
    planner.traces += 1
    planner.request.tell(f"trace {planner.traces}: all repeated blocks computed again")
    scenario = replace(planner.request.scenario, checkpointing=True)
    try:
        report = analyze_model(replace(planner.request, scenario=scenario))
    except ModelError:
        return {}
    if any(text.startswith("checkpointing: the model has no") for text in report.warnings):
        return {}
    return figures_of(report)


def figures_of(report: Report) -> dict[str, float]:
    """Return the figures of a plan that a report holds."""
    found = {}
    for name in FIGURES:
        part, _, name_of = name.partition(".")
        value = getattr(getattr(report, part), name_of, None)
        if value is not None:
            found[name] = value
    return found


def _side_by_side(before: Report, after: Report) -> tuple[Figure, ...]:
    old, new = figures_of(before), figures_of(after)
    names = (name for name in FIGURES if name in old or name in new)
    return tuple(Figure(name=name, before=old.get(name), after=new.get(name)) for name in names)
