"""``torchgauge explain FIGURE [MODEL]``: how a figure came about, part by part."""

from __future__ import annotations

import argparse
from dataclasses import replace

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.model_run import print_notes, request_from, user_code_prints_to_stderr
from torchgauge.cli.progress import Progress
from torchgauge.errors import UsageError
from torchgauge.facts.explanation import Explanation


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from torchgauge.explain.figures import FIGURES

    parser.add_argument(
        "name",
        metavar="FIGURE",
        help=", ".join(FIGURES) + "; or where the JSON has it, such as totals.params",
    )
    options.add_model_options(parser, is_optional=True)
    scenario_options.add_scenario_options(parser)
    options.add_real_run_option(parser)
    group = parser.add_argument_group("explanation")
    group.add_argument(
        "--module", metavar="PATH", help="explain what of the figure this module and those below do"
    )
    group.add_argument(
        "--top", type=options.positive_integer, metavar="N", help="show this many parts"
    )
    output.add_output_options(parser, details=True)


def run(arguments: argparse.Namespace) -> int:
    """Print the explanation.

    Raises:
        TorchGaugeError: whatever is wrong with the figure, the request or the model.
    """
    from torchgauge.explain.figures import figure_named
    from torchgauge.render.pages.explanation import TOP, explanation_page

    figure_named(arguments.name)
    target = output.chosen_output(arguments)
    if arguments.model is None:
        _check_no_model(arguments)
        from torchgauge.explain.answer import explain_figure

        found = explain_figure(arguments.name)
    else:
        found = _of_model(arguments)
    top = arguments.top or TOP
    target.deliver(lambda: explanation_page(found, top=top), found.to_json)
    if arguments.strict:
        output.check_doubts(_doubts(found))
    return 0


def _of_model(arguments: argparse.Namespace) -> Explanation:
    from torchgauge.models.requests import build_for, with_build

    request = request_from(arguments)
    with user_code_prints_to_stderr(), Progress(enabled=not arguments.quiet) as progress:
        request = replace(request, on_progress=progress.update)
        made = build_for(request)
        from torchgauge.analyze import analyze_model
        from torchgauge.explain.answer import explain_report

        report = analyze_model(with_build(request, made))
        found = explain_report(report, arguments.name, module=arguments.module)
    if not arguments.quiet:
        print_notes(made)
    return found


def _check_no_model(arguments: argparse.Namespace) -> None:
    if arguments.module is not None or arguments.input_size is not None:
        raise UsageError(
            "--module and --input-size are of a model, and none is named",
            hint=f"torchgauge explain {arguments.name} torchvision:resnet18",
        )


def _doubts(found: Explanation) -> list[str]:
    from torchgauge.facts.guess import guesses

    lines = [f"not counted: {text}" for text in found.not_counted]
    return [*lines, *(f"guessed: {text}" for text in guesses(found.assumptions))]
