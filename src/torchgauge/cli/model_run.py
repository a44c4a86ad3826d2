"""What the commands share that build a model, run it and print a report."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from torchgauge.cli import options, output
from torchgauge.cli.options import InputRequest
from torchgauge.cli.progress import Progress
from torchgauge.cli.streams import stdout_kept_free
from torchgauge.errors import ModelError, UsageError
from torchgauge.facts.report import Report
from torchgauge.models.build import ModelBuild
from torchgauge.models.spec import build_model, parse_model_spec

Execute = Callable[[ModelBuild, dict[str, Any], Callable[[str], None]], Report]
"""Takes the model, what goes into it as arguments of ``analyze``, and whom to tell of progress."""


Present = Callable[[Report, output.Output], None]
"""Takes the finished report and writes what is shown instead of it."""


def report_model(
    arguments: argparse.Namespace,
    execute: Execute,
    *,
    must_run: bool = False,
    present: Present | None = None,
) -> int:
    """Build the model, run ``execute`` on it, print the report and return the exit status.

    With ``must_run`` the model is built with real weights, and refused without an input.
    ``present`` writes something else than the report, when nothing failed.

    Raises:
        TorchGaugeError: whatever is wrong with the request, the model, or with ``--strict``
            the report.
    """
    # Everything that can be wrong with the request is found before torch is imported.
    spec = parse_model_spec(arguments.model, options.settings_from(arguments))
    request = options.input_request(arguments)
    target = output.chosen_output(arguments)
    failure: ModelError | None = None
    with user_code_prints_to_stderr(), Progress(enabled=not arguments.quiet) as progress:
        progress.update(f"building {spec.without_arguments}")
        build = build_model(spec, with_weights=must_run)
        if must_run:
            _check_runs(build, request)
        try:
            report = execute(build, model_inputs(build, request), progress.update)
        except ModelError as error:
            if error.report is None:
                raise
            report, failure = error.report, error
    report = _completed(report, build, request)
    if not arguments.quiet:
        _print_notes(build, request)
    if present is not None and failure is None:
        present(report, target)
    else:
        target.deliver_report(report)
    if failure is not None:
        raise failure
    if arguments.strict:
        output.check_strict(report)
    return 0


def _check_runs(build: ModelBuild, request: InputRequest) -> None:
    if not build.runs:
        raise UsageError(
            f"{build.spec} holds weights and no forward, so there is nothing to run",
            hint="name the class: file.py:Name",
        )
    if request.sizes is None and build.default_inputs is None:
        raise UsageError(
            "nothing can be measured without an input",
            hint="add --input-size 3,224,224, or whatever the model takes",
        )


def model_inputs(build: ModelBuild, request: InputRequest) -> dict[str, Any]:
    """Return the arguments of ``analyze`` that say what goes into the model.

    Raises:
        UsageError: inputs for something that does not run, or options without a size to act on.
    """
    given: dict[str, Any] = {}
    if request.sizes is not None:
        given["input_size"] = request.sizes
    if request.dtypes:
        given["dtypes"] = list(request.dtypes)
    if request.batch_size is not None:
        given["batch_size"] = request.batch_size
    if request.batch_dim is not None:
        given["batch_dim"] = request.batch_dim
    if given and not build.runs:
        raise UsageError(
            f"{build.spec} holds weights and no forward, so it takes no inputs",
            hint="leave --input-size and the like out, or name the class: file.py:Name",
        )
    defaults = build.default_inputs
    if request.sizes is not None or not build.runs:
        return given
    if defaults is None:
        if given:
            raise UsageError(
                "--batch-size, --batch-dim and --dtype need a size to act on",
                hint="add --input-size 3,224,224, or whatever the model takes",
            )
        return given
    if defaults.data is not None:
        if given:
            raise UsageError(
                f"the example inputs in {build.spec} have their batch and dtypes",
                hint="add --input-size as well",
            )
        return {"input_data": defaults.data, **defaults.keywords}
    if defaults.tensors:
        if request.dtypes or request.batch_dim is not None:
            raise UsageError(
                "--dtype and --batch-dim need a size to act on",
                hint="add --input-size for each input: " + defaults.why,
            )
        batch = request.batch_size or 1
        return {"input_data": {t.name: t.with_batch(batch) for t in defaults.tensors}}
    # Default sizes have no batch dimension; saying a batch size tells analyze so.
    dtypes = {"dtypes": list(defaults.dtypes)} if defaults.dtypes else {}
    return {"input_size": defaults.sizes, "batch_size": 1, **dtypes, **given}


def _completed(report: Report, build: ModelBuild, request: InputRequest) -> Report:
    """Return the report with what was assumed and warned of before the analysis began."""
    assumptions, warnings = completed_texts(build, request)
    return dataclasses.replace(
        report,
        assumptions=(*assumptions, *report.assumptions),
        warnings=(*warnings, *report.warnings),
    )


def completed_texts(
    build: ModelBuild, request: InputRequest, *, uses_defaults: bool = True
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the assumptions and warnings of what came before the analysis."""
    assumptions = build.assumptions
    if uses_defaults and build.default_inputs is not None and request.sizes is None:
        assumptions = (build.default_inputs.why, *assumptions)
    return assumptions, build.warnings


def _print_notes(build: ModelBuild, request: InputRequest) -> None:
    notes = list(build.notes)
    if build.runs and build.default_inputs is None and request.sizes is None:
        notes.append(
            "no input size was given, so the model was not run: parameters only "
            "(add --input-size 3,224,224, or whatever the model takes)"
        )
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


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
