"""``torchgauge summary MODEL``: how big a model is, what it costs, and where."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.model_run import report_model
from torchgauge.errors import UsageError
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
    parser.add_argument(
        "--against",
        metavar="REPORT",
        help="say what changed since a saved report, or since the last one in the history (last)",
    )
    parser.add_argument(
        "--suggest", action=argparse.BooleanOptionalAction,
        help="look for the one best change and measure it; the default, except in JSON and CSV",
    )  # fmt: skip
    output.add_output_options(parser, tree=True, details=True, figures=True)


def run(arguments: argparse.Namespace) -> int:
    """Print the report of a model.

    Raises:
        TorchGaugeError: whatever is wrong with the request, the model, or with ``--strict``
            the report.
    """
    # The model's code may change the working directory before it is written.
    timeline = arguments.timeline and arguments.timeline.absolute()
    wants_suggestion = _wants_suggestion(arguments)
    before = arguments.against and _before(arguments)
    if before and (arguments.depth or arguments.columns or arguments.expand):
        raise UsageError(
            "--depth, --columns and --expand have no meaning with --against", hint="leave them out"
        )

    def execute(request: Request) -> Report:
        from torchgauge.analyze import analyze_model

        report = analyze_model(request, batch_names=True, timeline=timeline)
        if not wants_suggestion:
            return report
        from torchgauge.advise.best import best_suggestion

        return replace(report, suggestion=best_suggestion(request, report))

    def changes(report: Report, target: output.Output) -> None:
        from torchgauge.cli.commands.compare import deliver_comparison
        from torchgauge.compare.reports import compare_reports

        deliver_comparison(before, report, compare_reports(before, report), target)

    return report_model(arguments, execute, present=changes if before else None)


def _wants_suggestion(arguments: argparse.Namespace) -> bool:
    """Return whether the one best change is looked for.

    Raises:
        UsageError: it is asked for where it cannot be shown.
    """
    name = "a comparison" if arguments.against else output.format_of(arguments)
    is_shown = name not in ("a comparison", "csv", "figure")
    if arguments.suggest and not is_shown:
        raise UsageError(f"--suggest has no meaning in {name}", hint="leave it out")
    return is_shown and (name != "json" if arguments.suggest is None else bool(arguments.suggest))


def _before(arguments: argparse.Namespace) -> Report:
    """Return the report to compare with.

    Raises:
        ReportFormatError: it cannot be read.
        UsageError: there is no history, or it holds nothing of this model.
    """
    from torchgauge.loop import history
    from torchgauge.loop.sides import Side, report_of

    if arguments.against != "last":
        return report_of(Side(text=arguments.against, request=None))
    path = history.found(Path.cwd())
    if path is None:
        raise UsageError(
            "this project has no history", hint="torchgauge history --start makes one here"
        )
    return history.last(path, arguments.model)
