"""``torchgauge summary MODEL``: how big a model is, what it costs, and where."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.model_run import report_model
from torchgauge.facts.report import Report
from torchgauge.models.build import ModelBuild


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser)
    scenario_options.add_scenario_options(parser)
    options.add_real_run_option(parser)
    parser.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE",
        help="write the predicted step of a GPU there, for ui.perfetto.dev",
    )
    output.add_output_options(parser, tree=True, details=True)


def run(arguments: argparse.Namespace) -> int:
    """Print the report of a model.

    Raises:
        TorchGaugeError: whatever is wrong with the request, the model, or with ``--strict``
            the report.
    """
    scenario = scenario_options.scenario_from(arguments)
    # The model's code may change the working directory before it is written.
    timeline = arguments.timeline and arguments.timeline.absolute()

    def execute(
        build: ModelBuild, inputs: dict[str, Any], on_progress: Callable[[str], None]
    ) -> Report:
        from torchgauge.api import analyze

        return analyze(
            build.model,
            scenario=scenario,
            model_name=build.name,
            model_spec=build.spec,
            name_batch=True,
            timeline=timeline,
            real_run=arguments.real_run,
            on_progress=on_progress,
            **inputs,
        )

    return report_model(arguments, execute)
