"""``torchgauge fit MODEL``: whether a step fits into a GPU, and what would make it fit."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from torchgauge.cli import options, output, scenario_options
from torchgauge.cli.model_run import (
    print_notes,
    request_from,
    user_code_prints_to_stderr,
)
from torchgauge.cli.progress import Progress
from torchgauge.errors import UsageError
from torchgauge.models.requests import build_for, check_runs, with_build
from torchgauge.request import Inputs, Request
from torchgauge.units import format_bytes

if TYPE_CHECKING:
    from torchgauge.facts.fit import BatchCurve, FitReport

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
        help="size generation with a KV cache that holds N tokens; replaces --input-size",
    )
    generation.add_argument(
        "--cache",
        type=options.one_of(("dynamic", "static")),
        metavar="KIND",
        help="dynamic (default) or static",
    )
    search = parser.add_argument_group("search")
    search.add_argument(
        "--no-search", action="store_true", help="do not search for the largest batch"
    )
    search.add_argument(
        "--no-alternatives", action="store_true", help="do not trace alternatives that save memory"
    )
    search.add_argument(
        "--batch-curve",
        type=_batch_sizes,
        nargs="?",
        const=(),
        metavar="N,…",
        help="show predicted throughput and memory over these batch sizes instead, or over powers "
        "of two up to the first that does not fit; one device",
    )
    output.add_output_options(parser, details=True)


def run(arguments: argparse.Namespace) -> int:
    """Print whether it fits; the exit status is 1 where the predicted bytes do not.

    With ``--device all`` it is 1 where it fits on none. With ``--strict`` doubt goes first: a
    verdict that hangs on a guess, or is too close to call, is none.

    Raises:
        TorchGaugeError: whatever is wrong with the request or the model.
    """
    request = request_from(arguments)
    names = arguments.device or ["cuda"]
    _check(arguments, request.inputs, names)
    target = output.chosen_output(arguments)
    with user_code_prints_to_stderr(), Progress(enabled=not arguments.quiet) as progress:
        request = replace(request, on_progress=progress.update)
        made = build_for(request)
        check_runs(made)
        asked = with_build(request, made, without_inputs=arguments.context is not None)
        if arguments.batch_curve is not None:
            curve = _curve(arguments, asked, names[0])
        else:
            report = _fits(arguments, asked, names)
    if not arguments.quiet:
        print_notes(made)
    if arguments.batch_curve is not None:
        from torchgauge.render.pages.curve import curve_page

        target.deliver(lambda: curve_page(curve), curve.to_json)
        return 0 if curve.knee is not None else 1  # where no size fits
    from torchgauge.render.pages.fit import fit_page

    target.deliver(lambda: fit_page(report), report.to_json)
    of_all = _ALL in names
    if arguments.strict:
        output.check_strict(report, _doubts(report, of_all=of_all))
    return 0 if (report.fits_somewhere if of_all else report.fits) else 1


def _doubts(report: FitReport, *, of_all: bool) -> Iterator[str]:
    """Yield the devices whose verdict is too close to call, where the exit status hangs on it."""
    from torchgauge.facts.fit import Verdict

    if of_all and any(device.verdict.runs for device in report.devices):
        return
    for device in report.devices:
        if device.verdict is Verdict.TOO_CLOSE:
            yield (
                f"too close to call on {device.device}: {format_bytes(device.device_bytes)} "
                f"needed, {format_bytes(device.device_interval[0])} to "
                f"{format_bytes(device.device_interval[1])} in four of five cases"
            )


def _fits(arguments: argparse.Namespace, asked: Request, names: list[str]) -> FitReport:
    from torchgauge.fit.finder import FitOptions, fit_model

    options = FitOptions(
        context=arguments.context,
        cache=arguments.cache or "dynamic",
        search=not arguments.no_search,
        alternatives=not arguments.no_alternatives,
    )
    return fit_model(asked, names, options)


def _batch_sizes(text: str) -> tuple[int, ...]:
    """Read batch sizes.

    >>> _batch_sizes("1,8,64")
    (1, 8, 64)
    """
    return tuple(options.positive_integer(part) for part in text.split(","))


def _curve(arguments: argparse.Namespace, asked: Request, device: str) -> BatchCurve:
    from torchgauge.fit.curve import batch_curve

    scenario = replace(asked.scenario, device=device)
    return batch_curve(replace(asked, scenario=scenario), arguments.batch_curve or None)


def _check(arguments: argparse.Namespace, inputs: Inputs, names: list[str]) -> None:
    if arguments.batch_curve is not None:
        if len(names) > 1 or names == [_ALL]:
            raise UsageError("--batch-curve takes one device", hint="name one --device")
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
    if inputs.size is not None:
        raise UsageError(
            "--context and --input-size contradict each other",
            hint="leave --input-size out: the prompt is made from the context",
        )
    if inputs.dtypes or inputs.batch_dim is not None:
        raise UsageError(
            "--dtype and --batch-dim describe sizes and do not go with --context",
            hint="leave them out",
        )
