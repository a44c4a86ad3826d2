"""``torchgauge measure MODEL``: run a step for real and say how long it takes, and where.

``torchgauge measure --calibrate`` times the CPU itself, for predictions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.model_run import report_model
from torchgauge.cli.progress import Progress
from torchgauge.errors import ScenarioError, UsageError
from torchgauge.facts.report import Report
from torchgauge.request import Request


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser, is_optional=True)
    scenario_options.add_scenario_options(parser, is_real=True)
    group = parser.add_argument_group("measurement")
    group.add_argument(
        "--repetitions",
        type=options.positive_integer,
        default=5,
        metavar="N",
        help="time at least N steps (default 5)",
    )
    group.add_argument(
        "--max-seconds",
        type=options.number_of("seconds"),
        default=10.0,
        metavar="S",
        help="repeat no longer than this (default 10)",
    )
    group.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE",
        help="write one profiled step to FILE, for ui.perfetto.dev",
    )
    group.add_argument(
        "--predicted",
        action="store_true",
        help="print predicted | measured | ratio by phase, module and operator, the worst first",
    )
    group.add_argument(
        "--calibrate",
        action="store_true",
        help="without MODEL: time this machine's CPU for later predictions (6 to 9 minutes; "
        "--output FILE keeps them elsewhere than in ~/.config/torchgauge/cpu.json)",
    )
    output.add_output_options(parser, tree=True, details=True)
    parser.set_defaults(default_of=parser.get_default)


def run(arguments: argparse.Namespace) -> int:
    """Print the report of a measured step, or calibrate.

    Raises:
        TorchGaugeError: whatever is wrong with the request, the model, or with ``--strict``
            the report.
    """
    if arguments.calibrate:
        return _calibrate(arguments)
    if arguments.model is None:
        raise UsageError(
            "no model was named",
            hint="torchgauge measure file.py:Name --input-size 3,224,224",
        )
    predictions: list[Report] = []
    # The model's code may change the working directory before it is written.
    timeline = arguments.timeline and arguments.timeline.absolute()

    def execute(request: Request) -> Report:
        from torchgauge.measure.measurement import Repeating, measure_model

        if arguments.predicted:
            predictions.append(_predicted(request))
        repeating = Repeating(
            min_repetitions=arguments.repetitions, max_seconds=arguments.max_seconds
        )
        return measure_model(request, repeating, timeline=timeline)

    if not arguments.predicted:
        return report_model(arguments, execute, must_run=True)
    _check_table(arguments)

    def side_by_side(measured: Report, target: output.Output) -> None:
        from torchgauge.compare.times import compare_times
        from torchgauge.render.pages.times import times_page

        comparison = compare_times(predictions[0], measured)
        target.deliver(lambda: times_page(comparison), comparison.to_json)

    return report_model(arguments, execute, must_run=True, present=side_by_side)


def _predicted(request: Request) -> Report:
    """Return the prediction for the device that is about to be measured.

    Raises:
        ScenarioError: there is none: a CPU that was not calibrated.
    """
    from torchgauge.analyze import analyze_model

    report = analyze_model(request)
    if report.time is None:
        why = next((text for text in report.assumptions if text.startswith("no times")), "")
        raise ScenarioError(
            f"there is no prediction for {request.scenario.device} here"
            + (f": {why.removeprefix('no times: ')}" if why else ""),
            hint="run torchgauge measure --calibrate first: it takes six to nine minutes",
        )
    return report


_OF_MODULES = ("depth", "columns", "expand")


def _check_table(arguments: argparse.Namespace) -> None:
    for name in _OF_MODULES:
        if getattr(arguments, name):
            raise UsageError(
                f"--{name} has no meaning with --predicted",
                hint="leave it out: the table has a row per phase, module and operator",
            )


_WITH_CALIBRATION = (
    "calibrate", "command", "debug", "default_of", "lang", "output", "quiet", "run",
)  # fmt: skip


def _calibrate(arguments: argparse.Namespace) -> int:
    """Time this machine's CPU and keep what later predictions need.

    Raises:
        UsageError: an option that says nothing here, or the file cannot be written.
    """
    for name, value in vars(arguments).items():
        if name not in _WITH_CALIBRATION and value != arguments.default_of(name):
            option = "a model" if name == "model" else f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option} has no meaning with --calibrate",
                hint="calibrate first, then measure or summarise a model",
            )
    from torchgauge.api import calibrate

    with Progress(enabled=not arguments.quiet) as progress:
        done = calibrate(arguments.output, on_progress=progress.update)
    from torchgauge.render import get_format
    from torchgauge.render.pages.times import calibration_page

    output.deliver(get_format("text", width=80).render(calibration_page(done)), None)
    return 0
