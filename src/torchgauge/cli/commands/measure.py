"""``torchgauge measure MODEL``: run a step for real and say how long it takes, and where."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.model_build import ModelBuild
from torchgauge.cli.model_run import report_model
from torchgauge.report.model import Report


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser)
    scenario_options.add_scenario_options(parser)
    group = parser.add_argument_group("measurement")
    group.add_argument(
        "--repetitions",
        type=options.positive_integer,
        default=5,
        metavar="N",
        help="time the step so often at least (default 5)",
    )
    group.add_argument(
        "--max-seconds",
        type=seconds,
        default=10.0,
        metavar="S",
        help="repeat no longer than this (default 10)",
    )
    group.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE",
        help="write one profiled step there, for ui.perfetto.dev",
    )
    output.add_output_options(parser)


def seconds(text: str) -> float:
    """Read a length of time in seconds.

    >>> seconds("2.5")
    2.5
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Print the report of a measured step.

    Raises:
        TorchGaugeError: whatever is wrong with the request, the model, or with ``--strict``
            the report.
    """
    scenario = scenario_options.scenario_from(arguments)

    def execute(
        build: ModelBuild, inputs: dict[str, Any], on_progress: Callable[[str], None]
    ) -> Report:
        from torchgauge.api import measure

        return measure(
            build.model,
            scenario=scenario,
            model_name=build.name,
            model_spec=build.spec,
            min_repetitions=arguments.repetitions,
            max_seconds=arguments.max_seconds,
            timeline=arguments.timeline,
            on_progress=on_progress,
            **inputs,
        )

    return report_model(arguments, execute, must_run=True)
