"""``torchgauge summary MODEL``: how big a model is, what it costs, and where."""

from __future__ import annotations

import argparse
from pathlib import Path

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.model_run import report_model
from torchgauge.facts.report import Report
from torchgauge.request import Request


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser)
    scenario_options.add_scenario_options(parser)
    options.add_real_run_option(parser)
    parser.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE",
        help="write the predicted GPU step to FILE, for ui.perfetto.dev",
    )
    output.add_output_options(parser, tree=True, details=True, figures=True)


def run(arguments: argparse.Namespace) -> int:
    """Print the report of a model.

    Raises:
        TorchGaugeError: whatever is wrong with the request, the model, or with ``--strict``
            the report.
    """
    # The model's code may change the working directory before it is written.
    timeline = arguments.timeline and arguments.timeline.absolute()

    def execute(request: Request) -> Report:
        from torchgauge.analyze import analyze_model

        return analyze_model(request, batch_names=True, timeline=timeline)

    return report_model(arguments, execute)
