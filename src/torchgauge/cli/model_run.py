"""What the commands share that build a model, run it and print a report."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from torchgauge.cli import messages, options, output, scenario_options
from torchgauge.cli.progress import Progress
from torchgauge.cli.streams import stdout_kept_free
from torchgauge.errors import ModelError, UsageError
from torchgauge.facts.report import Report
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Phase
from torchgauge.models.build import ModelBuild
from torchgauge.models.requests import build_for, check_runs, with_build
from torchgauge.models.spec import parse_model_spec
from torchgauge.request import Request


def request_from(arguments: argparse.Namespace, *, is_here: bool = True) -> Request:
    """Return the request that the options make; its model is still to be built.

    Everything that can be wrong with it is found before torch is imported. Where the model is not
    here, but at a git revision, its spec is looked at there.

    Raises:
        TorchGaugeError: whatever is wrong with the options.
    """
    settings = options.settings_from(arguments)
    if is_here:
        parse_model_spec(arguments.model, settings)
    if hasattr(arguments, "mode"):
        scenario = scenario_options.scenario_from(arguments)
    else:
        scenario = Scenario(device=arguments.device)
    return Request(
        spec=arguments.model,
        settings=settings,
        inputs=options.inputs_from(arguments),
        scenario=scenario,
        real_run=getattr(arguments, "real_run", True),
    )


def report_model(
    arguments: argparse.Namespace,
    execute: Callable[[Request], Report],
    *,
    must_run: bool = False,
    present: Callable[[Report, output.Output], None] | None = None,
) -> int:
    """Build the model, run ``execute`` on the request, print the report, return the exit status.

    With ``must_run`` the model is built with real weights, and refused without a forward.
    ``present`` writes something else than the report, when nothing failed.

    Raises:
        TorchGaugeError: whatever is wrong with the request, the model, or with ``--strict``
            the report.
    """
    request = request_from(arguments)
    target = output.chosen_output(arguments)
    failure: ModelError | None = None
    with user_code_prints_to_stderr(), Progress(enabled=not arguments.quiet) as progress:
        request = replace(request, on_progress=progress.update)
        made = build_for(request, with_weights=must_run)
        if must_run:
            check_runs(made)
        try:
            report = execute(with_build(request, made))
        except ModelError as error:
            if error.report is None:
                raise
            report, failure = error.report, error
    if failure is None:
        record(report)
    if not arguments.quiet:
        print_notes(made)
        is_unrun = made.runs and made.default_inputs is None and not request.inputs.are_given
        if is_unrun and not target.is_read_here:  # a terminal has it on the page
            messages.note(
                "no input size was given, so the model was not run: parameters only "
                "(add --input-size 3,224,224, or whatever the model takes)"
            )
    if present is not None and failure is None:
        present(report, target)
    else:
        target.deliver_report(report)
    if failure is not None:
        raise _seen_above(failure, report) if target.is_read_here else failure
    if arguments.strict:
        output.check_strict(report)
    return 0


def _seen_above(error: ModelError, report: Report) -> ModelError:
    """Return an error that only names the layer, for a terminal that shows the page above it."""
    failure = report.failure
    if failure is None:
        return error
    if failure.phase is Phase.OPTIMIZER:
        where = failure.module_type
    else:
        where = f"{failure.path or 'the model itself'} ({failure.module_type})"
    short = ModelError(f"{where} failed, see above", report=report)
    short.__cause__ = error
    return short


def record(report: Report) -> None:
    """Add a report to the history of the project in this folder, if it has one."""
    from torchgauge.loop.history import add, found

    path = found(Path.cwd())
    if path is None:
        return
    try:
        add(path, replace(report, suggestion=None))  # of figures, not of advice
    except UsageError as error:
        messages.note(f"not in the history: {error.message}; {error.hint}")


def print_notes(made: ModelBuild) -> None:
    """Print what the user should know of how the model was built, to stderr."""
    for note in made.notes:
        messages.note(note)


@contextlib.contextmanager
def user_code_prints_to_stderr() -> Iterator[None]:
    """Keep stdout for the result, and the working directory for what the user has named.

    What a model's code prints goes to stderr; a ``chdir`` of it ends with it.
    """
    folder = os.getcwd()
    try:
        with stdout_kept_free():
            yield
    finally:
        os.chdir(folder)
