"""``torchgauge fit MODEL``: whether a step fits into a GPU, and what would make it fit."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.model_run import (
    completed_texts,
    model_inputs,
    user_code_prints_to_stderr,
)
from torchgauge.cli.options import InputRequest
from torchgauge.cli.progress import Progress
from torchgauge.errors import UsageError
from torchgauge.models.build import ModelBuild
from torchgauge.models.spec import build_model, parse_model_spec

if TYPE_CHECKING:
    from torchgauge.facts.curve import BatchCurve
    from torchgauge.facts.fit import FitReport
    from torchgauge.facts.scenario import Scenario

_ALL = "all"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser)
    options.add_real_run_option(parser)
    scenario_options.add_scenario_options(parser, device=False)  # here it is repeatable
    group = parser.add_argument_group("devices")
    group.add_argument(
        "--device",
        action="append",
        metavar="NAME",
        help="a GPU that `torchgauge devices` lists, cuda for the one here, all for every one "
        "with CUDA; repeatable. With several there is one row for each, and no search",
    )
    generation = parser.add_argument_group("language models that generate")
    generation.add_argument(
        "--context",
        type=options.positive_integer,
        metavar="N",
        help="instead of an input size: the tokens in the cache of keys and values in the end",
    )
    generation.add_argument(
        "--cache",
        type=options.one_of(("dynamic", "static")),
        metavar="KIND",
        help="dynamic (default) or static",
    )
    search = parser.add_argument_group("search")
    search.add_argument(
        "--no-search", action="store_true", help="do not look for the largest batch"
    )
    search.add_argument(
        "--no-alternatives", action="store_true", help="do not trace what would take less"
    )
    search.add_argument(
        "--batch-curve",
        type=_batch_sizes,
        nargs="?",
        const=(),
        metavar="N,…",
        help="instead: predicted throughput and memory over these batch sizes, or over powers of "
        "two up to the first that does not fit; one device",
    )
    output.add_output_options(parser, details=True)


def run(arguments: argparse.Namespace) -> int:
    """Print whether it fits; the exit status is 1 where it does not.

    With ``--device all`` it is 1 where it fits on none. With ``--strict`` doubt goes first: a
    verdict that hangs on a guess is none.

    Raises:
        TorchGaugeError: whatever is wrong with the request or the model.
    """
    spec = parse_model_spec(arguments.model, options.settings_from(arguments))
    request = options.input_request(arguments)
    names = arguments.device or ["cuda"]
    scenario = scenario_options.scenario_from(arguments)
    _check(arguments, request, names)
    target = output.chosen_output(arguments)
    with user_code_prints_to_stderr(), Progress(enabled=not arguments.quiet) as progress:
        progress.update(f"building {spec.without_arguments}")
        build = build_model(spec, with_weights=False)
        inputs = _inputs(arguments, build, request)
        if arguments.batch_curve is not None:
            curve = _curve(arguments, build, scenario, names[0], inputs, progress)
        else:
            report = _fits(arguments, build, scenario, names, inputs, progress)
    if arguments.batch_curve is not None:
        from torchgauge.render.pages.curve import curve_page

        target.deliver(lambda: curve_page(curve), curve.to_json)
        _print_notes(arguments, build)
        return 0 if curve.knee is not None else 1  # where no size fits
    report = _completed(report, build, request, arguments.context)
    from torchgauge.render.pages.fit import fit_page

    target.deliver(lambda: fit_page(report), report.to_json)
    _print_notes(arguments, build)
    if arguments.strict:
        output.check_strict(report)
    enough = report.fits_somewhere if _ALL in names else report.fits
    return 0 if enough else 1


def _fits(
    arguments: argparse.Namespace,
    build: ModelBuild,
    scenario: Scenario,
    names: list[str],
    inputs: dict[str, Any],
    progress: Progress,
) -> FitReport:
    from torchgauge.api import fits

    return fits(
        build.model,
        device=names,
        scenario=scenario,
        context=arguments.context,
        cache=arguments.cache or "dynamic",
        search=not arguments.no_search,
        alternatives=not arguments.no_alternatives,
        model_name=build.name,
        model_spec=build.spec,
        real_run=arguments.real_run,
        on_progress=progress.update,
        **inputs,
    )


def _batch_sizes(text: str) -> tuple[int, ...]:
    """Read batch sizes.

    >>> _batch_sizes("1,8,64")
    (1, 8, 64)
    """
    return tuple(options.positive_integer(part) for part in text.split(","))


def _curve(
    arguments: argparse.Namespace,
    build: ModelBuild,
    scenario: Scenario,
    device: str,
    inputs: dict[str, Any],
    progress: Progress,
) -> BatchCurve:
    from torchgauge.fit.curve import batch_curve

    return batch_curve(
        build.model,
        scenario=dataclasses.replace(scenario, device=device),
        batch_sizes=arguments.batch_curve or None,
        model_name=build.name,
        real_run=arguments.real_run,
        on_progress=progress.update,
        **inputs,
    )


def _print_notes(arguments: argparse.Namespace, build: ModelBuild) -> None:
    if not arguments.quiet:
        for note in build.notes:
            print(f"note: {note}", file=sys.stderr)


def _check(arguments: argparse.Namespace, request: InputRequest, names: list[str]) -> None:
    if arguments.batch_curve is not None:
        if len(names) > 1 or names == [_ALL]:
            raise UsageError("--batch-curve is of one device", hint="name one --device")
        if arguments.context is not None:
            raise UsageError("--batch-curve does not go with --context", hint="leave one out")
        if arguments.strict:
            raise UsageError(
                "--strict has no meaning with --batch-curve", hint="its times are predictions"
            )
    if arguments.context is None:
        if arguments.cache is not None:
            raise UsageError("--cache needs a length", hint="add --context 8192")
        return
    if request.sizes is not None:
        raise UsageError(
            "--context and --input-size say two things",
            hint="leave --input-size out: the prompt is made from the context",
        )
    if request.dtypes or request.batch_dim is not None:
        raise UsageError(
            "--dtype and --batch-dim describe sizes and do not go with --context",
            hint="leave them out",
        )


def _inputs(
    arguments: argparse.Namespace, build: ModelBuild, request: InputRequest
) -> dict[str, Any]:
    if not build.runs:
        raise UsageError(
            f"{build.spec} holds weights and no forward, so there is nothing that could fit",
            hint="name the class: file.py:Name",
        )
    if arguments.context is not None:
        return {"batch_size": request.batch_size or 1}
    return model_inputs(build, request)


def _completed(
    report: FitReport, build: ModelBuild, request: InputRequest, context: int | None
) -> FitReport:
    assumptions, warnings = completed_texts(build, request, uses_defaults=context is None)
    return dataclasses.replace(
        report,
        assumptions=(*assumptions, *report.assumptions),
        warnings=(*warnings, *report.warnings),
    )
