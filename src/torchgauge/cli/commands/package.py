"""``torchgauge package MODEL --output DIR``: export a model, check it, and make it servable."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgauge.cli import options
from torchgauge.cli.model_run import (
    print_notes,
    request_from,
    user_code_prints_to_stderr,
)
from torchgauge.cli.output import add_format_option, chosen_output, deliver
from torchgauge.cli.progress import Progress
from torchgauge.errors import UsageError
from torchgauge.models.build import ModelBuild
from torchgauge.models.requests import build_for, check_runs, with_build
from torchgauge.request import Request
from torchgauge.units import format_bytes, format_milliseconds, format_number_of

if TYPE_CHECKING:
    import torch

    from torchgauge.deploy.parts import Package, PackageRequest
    from torchgauge.render.page import Page


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser)
    _add_program_options(parser.add_argument_group("program"))
    _add_budget_options(parser.add_argument_group("prediction and budget"))
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="the folder to make"
    )
    group.add_argument("--overwrite", action="store_true", help="replace an existing package")
    add_format_option(group)
    group.add_argument(
        "--quiet", action="store_true", help="print no notes and no progress to stderr"
    )
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _add_program_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dynamic",
        action="append",
        default=[],
        type=dynamic_dimension,
        metavar="INPUT:DIM[=NAME]",
        help="a dimension that may vary, besides the batch and the length of token inputs; "
        "repeatable",
    )
    group.add_argument(
        "--inputs",
        type=Path,
        metavar="FILE",
        help=".safetensors file with real inputs, by name; program and model are compared on them",
    )
    group.add_argument("--onnx", action="store_true", help="write model.onnx as well")
    group.add_argument(
        "--wheel",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a wheel that the serving image installs, for packages that no index has; repeatable",
    )


def _add_budget_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="predict the memory on this GPU too: one that torchgauge devices lists, or cuda",
    )
    group.add_argument(
        "--longest",
        type=options.positive_integer,
        metavar="N",
        help="longest length to allow (default: what the model is made for, or 2048)",
    )
    group.add_argument(
        "--budget-memory",
        type=options.memory_size,
        metavar="SIZE",
        help="such as 8GiB: exit 1 and write nothing when --budget-batch needs more",
    )
    group.add_argument(
        "--budget-ms",
        type=options.number_of("milliseconds", may_be_zero=False),
        metavar="MS",
        help="the same for the time of one forward on --device",
    )
    group.add_argument(
        "--budget-batch",
        type=options.positive_integer,
        default=1,
        metavar="N",
        help="batch size that must stay within the budgets (default 1)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the package and say what is in it.

    Raises:
        TorchGaugeError: whatever is wrong with the request, the model, the budget or the disk.
    """
    request = request_from(arguments)
    for wheel in arguments.wheel:
        if wheel.suffix != ".whl" or not wheel.is_file():
            raise UsageError(f"{wheel} is not a wheel", hint="name a .whl file")
    target = chosen_output(arguments, to_file=False)
    told: list[str] = []  # before the package is there: the format may fail
    output = arguments.output.absolute()  # the model's code may change the directory
    with user_code_prints_to_stderr(), Progress(enabled=not arguments.quiet) as progress:
        from torchgauge.deploy.package import package_model
        from torchgauge.deploy.writing import check_output

        check_output(arguments.output, overwrite=arguments.overwrite)
        request = replace(request, on_progress=progress.update)
        made = build_for(request, with_weights=True)
        package_model(
            output,
            _package_request(arguments, made, request),
            overwrite=arguments.overwrite,
            on_progress=progress.update,
            before_writing=lambda package: told.append(
                target.text(lambda: _page(package), lambda: _as_json(package))
            ),
        )
    if not arguments.quiet:
        print_notes(made)
    deliver("".join(told), None)
    return 0


# ---------------------------------------------------------------------------- request


def dynamic_dimension(text: str) -> tuple[str, int, str]:
    """Read ``x:1=time`` or ``x:1``.

    >>> dynamic_dimension("x:1=time"), dynamic_dimension("x:1")
    (('x', 1, 'time'), ('x', 1, 'x_1'))
    """
    place, separator, name = text.partition("=")
    tensor, colon, dim = place.rpartition(":")
    if not colon or not tensor or not dim.isdecimal() or (separator and not name.isidentifier()):
        raise argparse.ArgumentTypeError(f"{text!r} is not INPUT:DIM or INPUT:DIM=NAME")
    return tensor, int(dim), name or f"{tensor.replace('.', '_')}_{dim}"


def _package_request(
    arguments: argparse.Namespace, made: ModelBuild, request: Request
) -> PackageRequest:
    from torchgauge.deploy.parts import PackageRequest

    check_runs(made)
    dynamic: dict[str, dict[int, str]] = {}
    for tensor, dim, name in arguments.dynamic:
        dynamic.setdefault(tensor, {})[dim] = name
    return PackageRequest(
        asked=with_build(request, made),
        dynamic=dynamic,
        longest=arguments.longest,
        examples=None if arguments.inputs is None else _read_tensors(arguments.inputs),
        onnx=arguments.onnx,
        wheels=tuple(arguments.wheel),
        budget_bytes=arguments.budget_memory,
        budget_ms=arguments.budget_ms,
        budget_batch=arguments.budget_batch,
    )


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    from torchgauge.deploy.extras import require

    load_file = require("safetensors.torch", "serve", "read a .safetensors file").load_file
    try:
        tensors: dict[str, torch.Tensor] = load_file(str(path))
    except Exception as error:
        raise UsageError(
            f"{path} cannot be read as inputs: {error}", hint="write it with safetensors"
        ) from error
    return tensors


# ---------------------------------------------------------------------------- result


def _page(package: Package) -> Page:
    from torchgauge.render.page import Facts, Notes, Page, fact

    facts = [fact(label, *segments) for label, *segments in _lines(package)]
    notes = Notes(heading="Notes", lines=tuple(package.notes), calm=len(package.notes))
    title = (package.report.model_name, "package")
    shown = (notes,) if package.notes else ()
    return Page(title=title, blocks=(Facts(facts=tuple(facts)), *shown))


def _lines(package: Package) -> Iterator[tuple[str, ...]]:
    signature = package.signature
    yield "Folder", str(package.folder)
    for kind, tensors in (("Input", signature.inputs), ("Output", signature.outputs)):
        for tensor in tensors:
            yield kind, f"{tensor.name} {tensor.shape_text} {tensor.dtype}"
    ranges = [f"{name} {sizes}" for name, sizes in signature.dimensions.items()]
    yield ("Varies", *(ranges or ["nothing: all sizes are fixed"]))
    worst = max(package.comparisons, key=lambda item: item.max_difference)
    yield (
        "Difference",
        f"{worst.max_difference:.3g} at most ({worst.max_relative_difference:.3g} relative)",
        f"program against model, {format_number_of(len(package.comparisons), 'choice')} of sizes",
    )
    has_batch = "batch" in signature.dimensions
    for table in package.memory:
        line = table.lines[-1]
        limits = [f"{name} {size}" for name, size in line.up_to.items()]
        sizes = [*(["batch 1"] if has_batch else []), *limits]
        where = f" ({', '.join(sizes)})" if sizes else ""
        more = f"{format_bytes(line.bytes_per_sample)} more per sample"
        peak = f"{format_bytes(line.peak_bytes(1))} on {table.device}{where}"
        yield ("Memory", peak, *([more] if has_batch else []))
        times = [
            format_milliseconds(ms) + (f" (batch {batch})" if has_batch else "")
            for batch, ms in line.milliseconds.items()
        ]
        if times:
            yield "Time", f"{', '.join(times)} on {table.device}", *limits
    yield "Serve it", f"torchgauge serve {package.folder}"


def _as_json(package: Package) -> str:
    data: dict[str, Any] = {
        "folder": str(package.folder),
        "model": package.report.model_name,
        "signature": package.signature.to_dict(),
        "comparisons": [
            {
                "sizes": dict(item.sizes),
                "max_difference": item.max_difference,
                "max_relative_difference": item.max_relative_difference,
            }
            for item in package.comparisons
        ],
        "memory": [table.to_dict() for table in package.memory],
        "notes": list(package.notes),
    }
    return json.dumps(data, indent=2)
