"""Model + inputs + scenario → ``Report`` of a real run: recorded once, timed, then profiled.

Each of the three runs has a copy of the model of its own, one after the other: the recorded one
says what ran and where it failed if it did; the timed one runs bare; the profiled one says whose
time it was.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from statistics import median
from typing import TypeVar

import torch

from torchgauge.analyze import as_module, model_error, save_timeline
from torchgauge.errors import InputError, ModelError, ScenarioError, UsageError
from torchgauge.estimate.time.reporting import with_call_times
from torchgauge.facts.memory import PhaseMemory
from torchgauge.facts.pictures.timeline import Timeline
from torchgauge.facts.report import ModuleTable, Report
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.time import StepTime
from torchgauge.facts.trace import Execution, Failure, Phase, Trace
from torchgauge.measure.attribution import Attribution, attribute, profile_steps
from torchgauge.measure.marks import CallMarks
from torchgauge.measure.memory import phase_memory, release
from torchgauge.measure.settled import settle_allocator
from torchgauge.measure.step import RealStep, precision_of
from torchgauge.measure.timeline import measured_timeline
from torchgauge.measure.timing import Samples, measurement, repeat
from torchgauge.reports import report_of
from torchgauge.request import Request
from torchgauge.target import check_cpu_options
from torchgauge.trace.copy.meta_copy import whole_model
from torchgauge.trace.failures.out_of_memory import free_bytes, is_out_of_memory, requested_bytes
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.inspect.tree import type_name
from torchgauge.trace.inspect.wrappers import unwrap
from torchgauge.trace.isolate.isolation import neutral, untouched
from torchgauge.trace.isolate.left_behind import Outside
from torchgauge.trace.run.batch import name_batch
from torchgauge.trace.run.result import structure
from torchgauge.trace.run.run_plan import Outcome, RunPlan
from torchgauge.trace.run.runs import run
from torchgauge.trace.run.session import Session
from torchgauge.units import format_bytes

Part = TypeVar("Part")
_MOST_PROFILED = 10
_PROFILED_MS = 2000.0
"""Steps longer than this are profiled once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeating:
    """How often a step is timed.

    Raises:
        UsageError: a value that measures nothing.
    """

    min_repetitions: int = 5
    max_seconds: float = 10.0
    confidence: float = 0.95
    """Probability that an interval holds the true median."""

    def __post_init__(self) -> None:
        if self.min_repetitions < 1:
            raise UsageError(
                f"min_repetitions={self.min_repetitions} measures nothing", hint="use 1 or more"
            )
        if not self.max_seconds >= 0:
            raise UsageError(
                f"max_seconds={self.max_seconds} is not a length of time", hint="use 0 or more"
            )
        if not 0 < self.confidence < 1:
            raise UsageError(
                f"confidence={self.confidence} is not a probability",
                hint="between 0 and 1, such as 0.95",
            )


def measure_model(
    asked: Request, repeating: Repeating, *, timeline: str | PathLike[str] | None = None
) -> Report:
    """Run a scenario for real and return what it took; see ``torchgauge.measure``."""
    device = _device(asked.scenario)
    model = as_module(asked.model)
    whole, _ = whole_model(model)
    plan = plan_inputs(whole, asked.inputs)
    if plan is None:
        raise InputError(
            "nothing can be measured without an input",
            hint="add a size: input_size=(3, 224, 224), --input-size 3,224,224",
        )
    request = RunPlan(
        model=model,
        plan=plan,
        scenario=asked.scenario,
        loss=asked.loss,
        model_name=asked.name or type(whole).__name__,
        on_progress=asked.on_progress,
        real_device=device.type,
    )
    runs = _Runs(request, device)
    settle_allocator()
    outside = Outside(unwrap(model), () if asked.loss is None else (asked.loss,))
    try:
        return _completed(runs.report(repeating, timeline), asked)
    except ModelError as error:
        if error.__cause__ is not None:  # its frames hold the tensors of the failed run
            traceback.clear_frames(error.__cause__.__traceback__)
        if error.report is not None:
            error.report = _completed(error.report, asked)
        raise
    finally:
        outside.put_back(None, simulated=False)
        release(device)


def _completed(report: Report, asked: Request) -> Report:
    """Return the report with what the request says of the model, and what it assumed before."""
    return replace(
        report,
        model_spec=asked.spec,
        assumptions=(*asked.assumptions, *report.assumptions),
        warnings=(*asked.warnings, *report.warnings),
    )


class _Runs:
    """The three runs of a measurement, and the report that they make together."""

    def __init__(self, request: RunPlan, device: torch.device) -> None:
        self._request = request
        self._device = device
        self._report: Report | None = None

    def report(self, repeating: Repeating, timeline: str | PathLike[str] | None) -> Report:
        """Return the report, and save a timeline of one more step where there is a file for it."""
        with neutral(), precision_of(self._request):
            report = self._measured(repeating)
            if timeline is not None:
                recorded = self._guarded(lambda: self._timeline(report), "profiling it")
                save_timeline(recorded, timeline)
            return report

    def _measured(self, repeating: Repeating) -> Report:
        outcome = self._guarded(lambda: run(self._request), "looking at the model")
        if outcome.error is None:  # how the inputs are to be read is known now
            plan = outcome.plan or self._request.plan
            self._request = replace(self._request, plan=plan, gradients=outcome.gradients)
            outcome = self._guarded(self._recorded, "copying the model")
        trace = self._with_batch(outcome.trace)
        report = self._report = report_of(trace)
        if outcome.error is not None:
            raise model_error(outcome, report) from outcome.error
        samples, memory = self._guarded(lambda: self._timed(report, repeating), "repeating it")
        total = median(samples.total)
        medians = samples.medians()
        given = self._guarded(lambda: self._profiled(trace, medians, total), "profiling it")
        time = StepTime(
            forward_ms=medians.get(Phase.FORWARD, 0.0),
            loss_ms=medians.get(Phase.LOSS, 0.0),
            backward_ms=medians.get(Phase.BACKWARD, 0.0),
            optimizer_ms=medians.get(Phase.OPTIMIZER, 0.0),
            total_ms=total,
            outside_ms=given.outside_ms,
            between_ops_ms=given.between_ops_ms,
            ops=given.ops,
            measured=measurement(samples, _device_name(self._device), repeating.confidence),
        )
        as_written = ("measured as written: neither compiled nor wrapped",)
        is_wrapped = unwrap(self._request.model) is not self._request.model
        return replace(
            report,
            time=time,
            phase_memory=memory,
            modules=_with_times(report, trace, given),
            assumptions=(*report.assumptions, *as_written * is_wrapped),
        )

    def _timeline(self, report: Report) -> Timeline:
        """Return one more step, as the profiler saw it."""
        self._say("recording a timeline")
        types = {path: module.type for path, module in report.modules.items()}
        release(self._device)
        marks = CallMarks()
        with untouched(collect=True):
            step = RealStep(self._request, wrap=marks.wrap)
            return measured_timeline(
                step, marks, types, report.model_name, _device_name(self._device)
            )

    def _recorded(self) -> Outcome:
        self._say("recording a step")
        quiet = replace(self._request, on_progress=None)
        outcome = Session(quiet, Execution.REAL).run()
        release(self._device)
        return outcome

    def _with_batch(self, trace: Trace) -> Trace:
        """Return the trace with the dimensions named that grow with the batch."""
        simulated = replace(trace, execution=Execution.SIMULATED)
        return replace(name_batch(self._request, simulated), execution=trace.execution)

    def _timed(
        self, report: Report, repeating: Repeating
    ) -> tuple[Samples, tuple[PhaseMemory, ...]]:
        with untouched(collect=True):
            step = RealStep(self._request)
            samples = repeat(
                step,
                min_repetitions=repeating.min_repetitions,
                max_seconds=repeating.max_seconds,
                confidence=repeating.confidence,
                progress=self._say,
            )
            return samples, phase_memory(step, report.memory)

    def _profiled(self, trace: Trace, medians: Mapping[Phase, float], total: float) -> Attribution:
        release(self._device)
        steps = max(1, min(_MOST_PROFILED, int(_PROFILED_MS / total)))
        marks = CallMarks()
        with untouched(collect=True):
            step = RealStep(self._request, wrap=marks.wrap)
            shares = profile_steps(step, marks, trace, steps, self._say)
        return attribute(shares, medians, total)

    def _guarded(self, part: Callable[[], Part], doing: str) -> Part:
        """Run a part; a failed allocation in it is a result."""
        try:
            return part()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise self._out_of_memory(error, doing) from error

    def _out_of_memory(self, error: Exception, doing: str) -> ModelError:
        request = self._request
        asked, free = requested_bytes(error), free_bytes(self._device)
        root, _ = whole_model(request.model)
        failure = Failure(
            path="",
            module_type=type_name(root),
            inputs=(),
            error_type=type(error).__name__,
            error=str(error).strip() or type(error).__name__,
            phase=Phase.FORWARD,
            hint="the device is out of memory; use a smaller batch or input",
            requested_bytes=asked,
            free_bytes=free,
        )
        report = self._report or report_of(structure(root, request.scenario, request.model_name))
        report = replace(report, execution=Execution.REAL, failure=failure)
        sizes = [f"{format_bytes(asked)} asked for"] if asked is not None else []
        sizes += [f"{format_bytes(free)} free"] if free is not None else []
        return ModelError(
            f"out of memory while {doing}" + (f": {', '.join(sizes)}" if sizes else ""),
            hint=failure.hint,
            report=report,
        )

    def _say(self, text: str) -> None:
        if self._request.on_progress is not None:
            self._request.on_progress(text)


def _with_times(report: Report, trace: Trace, given: Attribution) -> ModuleTable:
    """Return the modules with the time of each call, sub-modules included."""
    numbers: Counter[str] = Counter()
    forward, backward = [0.0] * len(trace.calls), [0.0] * len(trace.calls)
    for call in trace.calls:
        key = (call.path, numbers[call.path])
        numbers[call.path] += 1
        forward[call.index], backward[call.index] = given.calls.get(key, (0.0, 0.0))
    return with_call_times(report.modules, trace, forward, backward)


_SIMULATED_ONLY = {
    "allocator": ("", "set PYTORCH_CUDA_ALLOC_CONF before the program starts"),
    "torch_release": (None, "install that release and measure with it"),
    "compiled": (
        False,
        "time torch.compile(model) with a timer of your own; "
        "summary --compiled predicts it for a GPU",
    ),
    "other_programs_bytes": (0, "a real run finds what is free on the GPU"),
    "first_step": (False, "the steps before are the warm-up; analyze() knows the first step"),
}
"""Fields of a scenario that a real run cannot follow: what says nothing, and what to do."""


def _device(scenario: Scenario) -> torch.device:
    """Return where to run; refuse what a real run cannot follow."""
    for name, (neutral_value, hint) in _SIMULATED_ONLY.items():
        if getattr(scenario, name) != neutral_value:
            raise ScenarioError(f"{name} has no meaning in a real run", hint=hint)
    if scenario.device not in ("cpu", "cuda"):
        raise ScenarioError(
            f"a real run uses this machine, not {scenario.device}",
            hint="use cpu or cuda here; torchgauge summary --device T4 (analyze()) "
            "predicts for other GPUs",
        )
    if scenario.device == "cpu":
        check_cpu_options(scenario)
    device = torch.device(scenario.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ScenarioError(
            "there is no CUDA device here to measure on",
            hint="leave the device out to measure on the CPU",
        )
    return device


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread" + ("s" if threads > 1 else "")
