"""``torchgauge compare A B``: what changed between two models, revisions, scenarios or reports."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import partial

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.model_run import request_from, user_code_prints_to_stderr
from torchgauge.cli.progress import Progress
from torchgauge.errors import ModelError, UsageError
from torchgauge.facts.loop.comparison import Comparison
from torchgauge.facts.report import Report
from torchgauge.request import Request

_LISTS = {"--input-size": "input_size", "--dtype": "dtype"}
"""Options that may be repeated: a change takes the place of all that were given."""
_OF_SAVED = (
    "model", "after", "measured", "details", "ascii", "width", "color", "format", "output",
    "strict", "quiet", "debug", "lang", "parse", "default_of",
)  # fmt: skip
"""What says something where both sides are saved."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser)
    parser.add_argument(
        "after",
        metavar="MODEL",
        nargs="?",
        help="the second one; without it the first one with what --change says. Each is a model, "
        "a saved report (.json, .gauge), or a model at a git revision: model.py:Net@main",
    )
    scenario_options.add_scenario_options(parser)
    options.add_real_run_option(parser)
    parser.add_argument(
        "--change",
        action="append",
        default=[],
        metavar="OPTION[=VALUE]",
        help="an option for the second one alone, such as precision=bf16-autocast, batch-size=64, "
        "set=width=2, or what a rule of advise would change: rule=fold-batchnorm; repeatable",
    )
    parser.add_argument(
        "--measured",
        action="store_true",
        help="run the first one for real: predicted | measured by phase, module and operator",
    )
    output.add_output_options(
        parser,
        details=True,
        strict="exit 4 when anything on either side was not counted, guessed or warned about",
    )
    parser.set_defaults(parse=parser.parse_args, default_of=parser.get_default)


def run(arguments: argparse.Namespace) -> int:
    """Print what changed.

    Raises:
        TorchGaugeError: whatever is wrong with a request, a model or a report.
    """
    if arguments.measured:
        return _measured(arguments)
    if arguments.after is None and not arguments.change:
        raise UsageError(
            "there is nothing to compare with",
            hint="name a second model or report, or add --change precision=bf16-autocast",
        )
    _check_options(arguments)
    target = output.chosen_output(arguments)
    changed = _changed(arguments)
    with user_code_prints_to_stderr(), Progress(enabled=not arguments.quiet) as progress:
        from torchgauge.loop.sides import compare_sides, side_of

        before = side_of(arguments.model, partial(_request, arguments))
        after = side_of(arguments.after or arguments.model, partial(_request, changed))
        after = replace(after, rules=tuple(_rules(arguments)))
        first, second, comparison = compare_sides(before, after, progress.update)
    deliver_comparison(first, second, comparison, target)
    for report in (first, second):
        if report.failure is not None:
            raise ModelError(
                f"{report.model_name} failed in {report.failure.path or 'the model itself'}, "
                "so it was compared up to there"
            )
    if arguments.strict:
        output.check_doubts(f"{note.name}: {note.after}" for note in comparison.notes if note.after)
    return 0


def deliver_comparison(
    before: Report, after: Report, comparison: Comparison, target: output.Output
) -> None:
    """Write a comparison; as HTML it is the page of both reports."""
    from torchgauge.render.formats.html import HtmlFormat
    from torchgauge.render.pages.loop.comparison import comparison_page

    if isinstance(target.format, HtmlFormat):
        from torchgauge.web.page import report_html

        output.deliver(report_html(before, after), target.path)
        return
    target.deliver(lambda: comparison_page(comparison), comparison.to_json)


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuse options of models where there is no model.

    Raises:
        UsageError: a saved report is to be changed, or both sides are saved and one is asked.
    """
    from torchgauge.loop.sides import is_saved

    after = arguments.after or arguments.model
    if is_saved(after) and arguments.change:
        raise UsageError(
            f"--change has no meaning for {after}, which is saved", hint="name a model instead"
        )
    if not (is_saved(arguments.model) and is_saved(after)):
        return
    for name, value in vars(arguments).items():
        if name not in _OF_SAVED and value != arguments.default_of(name):
            raise UsageError(
                f"--{name.replace('_', '-')} has no meaning for two saved reports",
                hint="leave it out, or name a model",
            )


def _request(arguments: argparse.Namespace, spec: str, is_here: bool) -> Request:
    made = copy(arguments)
    made.model = spec
    return request_from(made, is_here=is_here)


def _changed(arguments: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments of the second side.

    Raises:
        UsageError: a change is not an option.
    """
    made = copy(arguments)
    tokens = [arguments.model]
    for change in arguments.change:
        if change.startswith("rule="):
            continue
        name, has_value, value = change.removeprefix("--").partition("=")
        option = f"--{name}"
        if option in _LISTS:
            setattr(made, _LISTS[option], None)
        tokens += [option, value] if has_value else [option]
    made.set = list(arguments.set)
    parsed: argparse.Namespace = arguments.parse(tokens, namespace=made)
    return parsed


def _rules(arguments: argparse.Namespace) -> Iterator[str]:
    for change in arguments.change:
        if change.startswith("rule="):
            yield change.removeprefix("rule=")


def _measured(arguments: argparse.Namespace) -> int:
    from torchgauge.cli.commands.measure import run as measure

    if arguments.after is not None or arguments.change:
        raise UsageError(
            "--measured compares one model with itself, predicted and run",
            hint="leave the second one and --change out",
        )
    arguments.predicted, arguments.calibrate = True, False
    arguments.repetitions, arguments.max_seconds, arguments.timeline = 5, 10.0, None
    arguments.depth = arguments.columns = arguments.expand = None
    return measure(arguments)
