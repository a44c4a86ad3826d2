"""The functions that a user calls.

Torch is imported when something is analysed: a saved report is loaded and shown without it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from torchgauge.errors import ModelError, UsageError
from torchgauge.estimate.compute.flops import register_flop_formula
from torchgauge.facts.fit import FitReport
from torchgauge.facts.io import load_answer
from torchgauge.facts.report import Report
from torchgauge.facts.trace import Trace
from torchgauge.models.requests import request_of
from torchgauge.render import get_format
from torchgauge.render.cells import bundle_of_page, cell_page
from torchgauge.render.pages import page_of
from torchgauge.render.shell import mark_shown, notebook_shell
from torchgauge.render.terminal import terminal_options
from torchgauge.render.tree.rows import TreeOptions
from torchgauge.shown import Shown

if TYPE_CHECKING:
    from torch import nn

    from torchgauge.measure.calibration.run import Calibrated
    from torchgauge.request import InputSize

__all__ = [
    "analyze",
    "calibrate",
    "estimate",
    "fits",
    "load",
    "measure",
    "register_flop_formula",
    "show",
    "summary",
]


def analyze(
    model: nn.Module | str,
    input_size: InputSize | None = None,
    *,
    name_batch: bool = False,
    timeline: str | Path | None = None,
    **options: Any,
) -> Report:
    """Trace one run of a model and return what it costs. Nothing is printed or changed.

    ``analyze(net, (3, 224, 224), mode="training", optimizer="adamw", device="T4")``: every field
    of ``Scenario`` is a keyword. What is no keyword of this function goes to the model's forward.

    Args:
        model: any module: real, meta, compiled, wrapped; an exported program; or a model spec such
            as ``"torchvision:resnet50"``, which is built without memory for its weights.
        input_size: a shape ``(3, 224, 224)``, several ``[(3, 32, 32), (10,)]``, or by argument
            ``{"input_ids": (1, 128)}``. Without ``input_size`` and ``input_data`` nothing is run
            and the report holds the structure alone.
        name_batch: find out which dimensions grow with the batch, by one more bare forward.
        timeline: a file to write the predicted step to, for ui.perfetto.dev; needs a GPU as
            ``device``.
        **options: any of

            - ``input_data``: instead of sizes: a tensor or array, a tuple or list of arguments, a
              dict of keyword arguments, or a function that returns one of these;
            - ``batch_size``: says that the sizes have no batch dimension, and how large it is;
            - ``batch_dim``: where the batch dimension goes (default 0); sizes then have none;
            - ``dtypes``: one dtype for all inputs or one per input; inferred otherwise;
            - ``scenario``: what is run; inference of the model as built by default;
            - a field of ``Scenario``: changes that field;
            - ``loss``: for training: a name, or a function from the model's output to a scalar;
            - ``model_name``, ``model_spec``: what the report calls the model, where it is from;
            - ``real_run``: whether the model may run for real on the CPU where a simulated run is
              not enough (default true; the report says so where it did);
            - ``on_progress``: called with the name of each phase when it starts;
            - ``forward_kwargs``, and any other keyword: passed to the model's forward. An argument
              of the forward that is called like one of these, or like a field of ``Scenario``, goes
              into ``forward_kwargs``.

    Returns:
        The report: counts in parameters, MACs and FLOPs (1 MAC = 2 FLOPs), memory in bytes.

    Raises:
        InputError: when the inputs make no sense.
        ScenarioError: when the scenario does not fit the model.
        UsageError: when a keyword could mean the scenario or the model's forward.
        ModelError: when the model raises; ``error.report`` is the report up to the failing layer.

    >>> from torch import nn
    >>> analyze(nn.Linear(8, 2), (4, 8)).totals.forward_macs
    64
    >>> analyze(nn.Linear(8, 2), (4, 8), mode="training").totals.backward_flops
    128
    """
    from torchgauge.analyze import analyze_model

    request = request_of(model, input_size, options)
    return analyze_model(request, batch_names=name_batch, timeline=timeline)


def summary(
    model: nn.Module | str,
    input_size: InputSize | None = None,
    *,
    depth: int | None = None,
    columns: Sequence[str] | None = None,
    expand: bool = False,
    details: bool | None = None,
    ascii: bool = False,
    width: int | None = None,
    file: IO[str] | None = None,
    unfold: bool = False,
    suggest: bool | None = None,
    **options: Any,
) -> Report:
    """Print the answers and the table of a model and return its report; a notebook shows it once.

    Takes everything that ``analyze`` takes, and what ``show`` takes to say how it looks
    (``unfold`` is the former name of ``expand``). The answers end with the best change
    of a layer. ``suggest=False`` turns that off. ``suggest=True`` may trace the step once more
    for a change of how it runs, and keeps what it finds in the report that is returned.

    Raises:
        ModelError: after printing the table up to the layer that failed.
    """
    shown: dict[str, Any] = {
        "depth": depth, "columns": columns, "expand": expand or unfold, "details": details,
        "ascii": ascii, "width": width, "file": file,
    }  # fmt: skip
    _format_of(file or sys.stdout, details=details, ascii=ascii, width=width)
    TreeOptions(depth=depth, columns=columns)
    from torchgauge.analyze import analyze_model

    names, timeline = options.pop("name_batch", True), options.pop("timeline", None)
    try:
        request = request_of(model, input_size, options)
        report = analyze_model(request, batch_names=names, timeline=timeline)
    except ModelError as error:
        if error.report is not None:
            _show_once(error.report, error.report, shown)
        raise
    advised = report
    if suggest is not False:
        from torchgauge.advise.best import best_suggestion

        advised = replace(
            report, suggestion=best_suggestion(request, report, may_trace=bool(suggest))
        )
    returned = advised if suggest else report
    _show_once(advised, returned, shown)
    return returned


def _show_once(report: Report, returned: Report, shown: Mapping[str, Any]) -> None:
    """Show a report; a cell that ends in what is returned does not show it again."""
    show(report, **shown)
    if shown["file"] is None:
        mark_shown(returned)


def show(
    answer: Shown,
    *,
    depth: int | None = None,
    columns: Sequence[str] | None = None,
    expand: bool = False,
    details: bool | None = None,
    ascii: bool = False,
    width: int | None = None,
    file: IO[str] | None = None,
) -> None:
    """Print what a function of torchgauge returned; a notebook's cell is shown a rich view of it.

    Args:
        answer: a report, the answer of ``fits`` or ``compare``, or a trace, whose report is made; a
            calibration, a device, devices.
        depth: levels of modules in the table of a report.
        columns: names of its columns, in this order.
        expand: show every repeated block, every different call and every output.
        details: everything there is to say; by default in a file, and the calm view on a terminal
            and in a notebook.
        ascii: no character outside of ASCII. Like a width, it makes a notebook show plain text.
        width: characters per line: the terminal's by default, as many as the table takes elsewhere.
        file: where to print; the standard output by default.

    Raises:
        UsageError: for an unknown column, a depth below 1 or a width below 40.
    """
    text = _format_of(file or sys.stdout, details=details, ascii=ascii, width=width)
    tree = {"depth": depth, "columns": columns, "expand": expand}
    # Who names a file, a width or ASCII wants text.
    shell = None if file or ascii or width else notebook_shell()
    if shell is None:
        print(text.render(page_of(answer, **tree)), file=file or sys.stdout)
        return
    bundle = bundle_of_page(cell_page(answer, **tree), details=bool(details))
    shell.display_pub.publish(data=bundle, metadata={})


def _format_of(target: IO[str], **layout: Any) -> Any:
    return get_format("text", **terminal_options(target, **layout))


def calibrate(
    path: str | Path | None = None, *, on_progress: Callable[[str], None] | None = None
) -> Calibrated:
    """Time this machine's CPU, so that ``analyze`` predicts the time of a step on it.

    Some 7,000 operators of sizes that networks have are timed one by one, each with tensors that
    lie where a step finds them, and a few networks are timed whole to say how good predictions are.
    That takes six to nine minutes, in which nothing else should run. The result holds for this
    processor, number of threads and version of torch: another one is not predicted with it.

    Args:
        path: the file to keep it in; ``~/.config/torchgauge/cpu.json`` by default, or what the
            variable ``TORCHGAUGE_CPU`` names. Predictions use that file.
        on_progress: called with what is being done.

    Returns:
        The calibration, where it is, and the networks predicted and measured.

    Raises:
        UsageError: the file cannot be written.
    """
    from torchgauge.measure.calibration.run import calibrate as calibrated

    return calibrated(path, on_progress or (lambda text: None))


def measure(
    model: nn.Module | str,
    input_size: InputSize | None = None,
    *,
    min_repetitions: int = 5,
    max_seconds: float = 10.0,
    confidence: float = 0.95,
    timeline: str | Path | None = None,
    **options: Any,
) -> Report:
    """Run the scenario for real, again and again, and return what it takes and where.

    A copy of the model runs, on the CPU or, with ``device="cuda"``, on the GPU; yours is neither
    trained nor moved, and nothing is left behind. The step is timed bare. Then it runs a few times
    under ``torch.profiler``, whose shares say which layer and operator took how much.

    Args:
        model: as ``analyze`` takes it; a model spec is built with weights.
        input_size: as ``analyze`` takes it; inputs of random values are made.
        min_repetitions: how often the step is timed at least, whatever it takes.
        max_seconds: when to stop repeating; it ends earlier once the interval around the median
            lies within 1 % of it.
        confidence: the probability with which an interval holds the true median.
        timeline: a file to write one profiled step to, for ui.perfetto.dev: phases, modules,
            operators and kernels in time, and the memory in use.
        **options: those of ``analyze``; the device is ``"cpu"`` or ``"cuda"``.

    Returns:
        A report as ``analyze`` returns it, of the real run (``execution`` is ``"real"``), with
        ``time`` in milliseconds, ``time_ms`` of every call, and ``phase_memory`` in bytes.

    Raises:
        InputError: when the inputs make no sense, or there are none.
        ScenarioError: when the scenario does not fit the model, or its device is not there.
        ModelError: when the model raises or the memory is not enough; ``error.report`` is the
            report up to there.

    >>> from torch import nn
    >>> report = measure(nn.Linear(8, 2), (4, 8), max_seconds=0.1)
    >>> report.time.total_ms > 0
    True
    """
    from torchgauge.measure.measurement import Repeating, measure_model

    request = request_of(model, input_size, options, with_weights=True)
    repeating = Repeating(
        min_repetitions=min_repetitions, max_seconds=max_seconds, confidence=confidence
    )
    return measure_model(request, repeating, timeline=timeline)


def fits(
    model: nn.Module | str,
    input_size: InputSize | None = None,
    *,
    device: str | Sequence[str] = "cuda",
    context: int | None = None,
    cache: str = "dynamic",
    search: bool = True,
    alternatives: bool = True,
    **options: Any,
) -> FitReport:
    """Say whether a step fits into a GPU, how large it may get, and what would make it fit.

    Nothing is printed and nothing runs on a GPU: every number is that of a trace, the largest
    batch and each alternative included.

    Args:
        model: as ``analyze`` takes it.
        input_size: as ``analyze`` takes it.
        device: a GPU that ``torchgauge devices`` lists, several of them, ``"all"``, or ``"cuda"``
            for the one of this machine. With several there is one row for each, and no search.
            It takes the place of the scenario's device, unless only the scenario names one.
        context: for a language model of transformers that generates, instead of an input: the
            tokens in its cache in the end, ``batch_size`` sequences of them.
        cache: ``"dynamic"`` (grows with each token) or ``"static"`` (as long as the context).
        search: look for the largest batch, and for the largest context.
        alternatives: trace what would make it fit, or free memory.
        **options: those of ``analyze``.

    Raises:
        DeviceError: a device is not known; the nearest names are offered.
        InputError: when the inputs make no sense, or there are none.
        ScenarioError: when the scenario does not fit the model.
        ModelError: when the model raises; ``error.report`` is the report up to the failing layer.

    >>> from torch import nn
    >>> report = fits(nn.Linear(512, 512), (1024, 512), device="RTX 3060 12GB")
    >>> str(report.verdict), report.devices[0].headroom_bytes > 0
    ('fits', True)
    """
    from torchgauge.fit.finder import FitOptions, fit_model

    fit_options = FitOptions(search=search, alternatives=alternatives, context=context, cache=cache)
    request = request_of(model, input_size, options, without_inputs=context is not None)
    if cache != "dynamic" and context is None:
        raise UsageError("a cache needs a context", hint="add context=8192")
    names = [device] if isinstance(device, str) else list(device)
    if names == ["cuda"] and request.scenario.device != "cpu":
        names = [request.scenario.device]
    return fit_model(request, names, fit_options)


def estimate(trace: Trace | Report, device: str | None = None) -> Report:
    """Return what a recorded step costs on another device. Needs no torch and no model.

    A trace holds the kernels of one family of GPUs. For every device of that family the report
    equals that of ``analyze``: ``estimate(report.trace, device="A10")``.

    Args:
        trace: the trace of a report (or that report), or one that ``load`` read from a file.
        device: a GPU that ``torchgauge devices`` lists, or ``"cpu"``; the trace's own by default.

    Raises:
        UsageError: there is no trace.
        DeviceError: the device is not known.
        ScenarioError: the device runs other kernels than the trace holds.

    >>> from torch import nn
    >>> report = analyze(nn.Linear(8, 2), (4, 8), device="RTX 3090")
    >>> estimate(report.trace, device="A10").scenario.device
    'A10'
    """
    from torchgauge.reports import estimate_trace

    given: object = trace.trace if isinstance(trace, Report) else trace
    if not isinstance(given, Trace):
        if isinstance(trace, Report):
            raise UsageError(
                "this report has no trace: it was loaded, measured or unpickled",
                hint="save report.trace of analyze(), and estimate that: tg.load('step.gauge')",
            )
        raise UsageError(
            f"a {type(given).__name__} is not a trace",
            hint="pass report.trace, or tg.load('step.gauge')",
        )
    return estimate_trace(given, device)


def load(path: str | Path) -> Any:
    """Read an answer that was saved as JSON, by ``save`` or ``--format json``, or a saved trace.

    Returns:
        The answer in its own type, such as ``Report``, ``FitReport`` or ``Advice``, or the
        ``Trace``.

    Raises:
        ReportFormatError: when the file is neither, is damaged, or is of another version.
    """
    return load_answer(path)
