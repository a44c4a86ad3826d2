"""Request + goal → plan: trace the step, choose what to recompute, tell what it comes to."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from torch import nn

from torchgauge.analyze import analyze_model
from torchgauge.changes.traces import Traces
from torchgauge.checkpoints.goal import PlanOptions, goal_of
from torchgauge.checkpoints.price import price_of
from torchgauge.checkpoints.search import Found, Planner, search
from torchgauge.checkpoints.snippet import has_norms, snippet_of
from torchgauge.checkpoints.step.builder import program_of
from torchgauge.checkpoints.step.candidates import Candidates, candidates_of
from torchgauge.checkpoints.step.model import StepModel
from torchgauge.checkpoints.step.options import Option
from torchgauge.errors import ModelError, UsageError
from torchgauge.estimate.memory.lifetimes import live_bytes
from torchgauge.estimate.memory.workspaces import workspaces_for
from torchgauge.facts.loop.checkpoints import CheckpointPlan, Recomputed
from torchgauge.facts.loop.comparison import figures_beside
from torchgauge.facts.query import has_run, named_figures
from torchgauge.facts.report import Report
from torchgauge.request import Request, in_mode
from torchgauge.target import platform_of, target_of
from torchgauge.version import __version__

FIGURES: Final = (
    "memory.peak_allocated_bytes", "memory.device_bytes", "memory.saved_activation_bytes",
    "totals.total_flops", "time.total_ms",
)  # fmt: skip
_MOST: Final = 4000
"""Options among which the solver chooses."""
_SMALLEST: Final = 1e-4
"""Share of the saved activations that an option drops at least."""


def plan_model(request: Request, options: PlanOptions) -> CheckpointPlan:
    """Return which modules to recompute; see ``torchgauge.plan_checkpoints``.

    Raises:
        TorchGaugeError: what ``analyze`` raises, the goal makes no sense, or the scenario
            checkpoints already.
    """
    request = replace(request, scenario=in_mode(request.scenario, "training"))
    traces = Traces(tell=request.tell)
    report = _as_it_is(request, traces)
    planner = planner_of(request, report, options, traces)
    return _answer(planner, search(planner))


def planner_of(request: Request, report: Report, options: PlanOptions, traces: Traces) -> Planner:
    """Return what can be recomputed in a training step that was traced, to be searched.

    Raises:
        UsageError: the goal makes no sense.
    """
    goal = goal_of(report, options)
    price, least = price_of(report, options.least)
    request.tell("weighing what could be recomputed")
    model, candidates = _model_of(request, report)
    worth = _worthwhile(model.options(candidates.found, price), report)
    return Planner(
        request=request,
        report=report,
        goal=goal,
        least=least,
        options=worth,
        refused=candidates.refused,
        program=program_of(model, worth),
        traces=traces,
    )


def _as_it_is(request: Request, traces: Traces) -> Report:
    """Return the report of the step without checkpoints."""
    if request.scenario.checkpointing:
        raise UsageError(
            "the scenario checkpoints already, and the plan decides what is checkpointed",
            hint="leave checkpointing out",
        )
    traces.say("the step as it is")
    report = analyze_model(request)
    if not has_run(report):
        raise UsageError(
            "a plan needs a step that runs, and no input was given",
            hint="add a size: (3, 224, 224), --input-size 3,224,224",
        )
    return report


def _model_of(request: Request, report: Report) -> tuple[StepModel, Candidates]:
    trace = report.trace
    assert trace is not None
    sequentials = [path for path, module in request.model.named_modules() if _is_plain(module)]
    target = target_of(request.scenario)
    live = live_bytes(trace, workspaces_for(platform_of(target, trace)))
    model = StepModel(trace, live, on_cpu=target.gpu is None)
    return model, candidates_of(trace, sequentials)


def _is_plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _worthwhile(options: list[Option], report: Report) -> list[Option]:
    """Return the options that drop something worth it; of very many those that drop most.

    Those that keep operators' outputs are left out first.
    """
    assert report.memory is not None
    least = report.memory.saved_activation_bytes * _SMALLEST
    found = [option for option in options if option.nbytes > least]
    if len(found) > _MOST:
        found = sorted(found, key=lambda o: (bool(o.kept), -o.nbytes))[:_MOST]
    return found


# ---------------------------------------------------------------------------- the answer


def _answer(planner: Planner, found: Found) -> CheckpointPlan:
    request, report = planner.request, planner.report
    assert found.report.memory is not None
    chosen = planner.chosen(found.chosen)
    blocks = _with_blocks(planner) if chosen else {}
    return CheckpointPlan(
        tool_version=__version__,
        torch_version=report.torch_version,
        model_name=report.model_name,
        model_spec=request.spec,
        scenario=report.scenario,
        batch_size=report.batch_size,
        goal=planner.goal,
        fits=found.fits,
        least=planner.least,
        recomputed=tuple(map(_described, chosen)),
        figures=figures_beside(
            named_figures(report, FIGURES), named_figures(found.report, FIGURES), FIGURES
        ),
        peak_at=found.report.memory.peak_at,
        blocks=blocks,
        gap=found.gap,
        candidates=len(planner.options),
        refused=planner.refused,
        broken=tuple(planner.broken),
        traces=planner.traces.count,
        snippet=code_of(planner, found),
        assumptions=found.report.assumptions,
        warnings=found.report.warnings,
    )


def code_of(planner: Planner, found: Found) -> tuple[str, ...]:
    """Return the lines to paste for a plan."""
    places = [option.place for option in planner.chosen(found.chosen)]
    return snippet_of(places, has_norms=has_norms(planner.request.model, places))


def _described(option: Option) -> Recomputed:
    return Recomputed(
        place=option.place.where,
        type=option.candidate.type,
        kept=option.kept,
        dropped_bytes=option.nbytes,
        flops=option.flops,
        calls=len(option.again),
    )


def _with_blocks(planner: Planner) -> dict[str, float]:
    """Return the figures with the repeated blocks checkpointed, as most recipes do it."""
    planner.traces.say("all repeated blocks recomputed")
    scenario = replace(planner.request.scenario, checkpointing=True)
    try:
        report = analyze_model(replace(planner.request, scenario=scenario))
    except ModelError:
        return {}
    if any(text.startswith("checkpointing: the model has no") for text in report.warnings):
        return {}
    return named_figures(report, FIGURES)
