"""``torchgauge package MODEL --output DIR``: export a model, check it, and make it servable."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgauge.cli import options
from torchgauge.cli.model_run import (
    build,
    print_notes,
    request_from,
    user_code_prints_to_stderr,
)
from torchgauge.cli.progress import Progress
from torchgauge.errors import UsageError
from torchgauge.models.build import ModelBuild
from torchgauge.models.requests import check_runs, with_build
from torchgauge.request import Request
from torchgauge.units import format_bytes, format_milliseconds, format_number_of, parse_bytes

if TYPE_CHECKING:
    import torch

    from torchgauge.deploy.package import Package
    from torchgauge.deploy.parts import PackageRequest


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    options.add_model_options(parser)
    group = parser.add_argument_group("program")
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
        help="a .safetensors file with real inputs by name, to compare with the original on",
    )
    group.add_argument("--onnx", action="store_true", help="write model.onnx as well")
    group.add_argument(
        "--wheel",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a wheel that the serving image installs, for what no index has; repeatable",
    )
    group = parser.add_argument_group("prediction and budget")
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
        help="the most that a length may be (default: what the model is made for, or 2048)",
    )
    group.add_argument(
        "--budget-memory",
        type=memory_size,
        metavar="SIZE",
        help="such as 8GiB: exit 1 and write nothing when --budget-batch needs more",
    )
    group.add_argument(
        "--budget-ms",
        type=milliseconds,
        metavar="MS",
        help="the same for the time of one forward on --device",
    )
    group.add_argument(
        "--budget-batch",
        type=options.positive_integer,
        default=1,
        metavar="N",
        help="the batch that has to keep within the budgets (default 1)",
    )
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="the folder to make"
    )
    group.add_argument("--overwrite", action="store_true", help="replace a package that is there")
    group.add_argument(
        "--format", type=options.one_of(("text", "json")), default="text", metavar="NAME",
        help="of what is printed: text or json",
    )  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="no notes and no progress on stderr")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(arguments: argparse.Namespace) -> int:
    """Write the package and say what is in it.

    Raises:
        TorchGaugeError: whatever is wrong with the request, the model, the budget or the disk.
    """
    request = request_from(arguments)
    _check_wheels(arguments.wheel)
    output = arguments.output.absolute()  # the model's code may change the directory
    with user_code_prints_to_stderr(), Progress(enabled=not arguments.quiet) as progress:
        from torchgauge.deploy.package import package_model
        from torchgauge.deploy.writing import check_output

        check_output(arguments.output, overwrite=arguments.overwrite)
        request = replace(request, on_progress=progress.update)
        made = build(request, with_weights=True)
        package = package_model(
            output,
            _package_request(arguments, made, request),
            overwrite=arguments.overwrite,
            on_progress=progress.update,
        )
    if not arguments.quiet:
        print_notes(made)
    print(_as_json(package) if arguments.format == "json" else _as_text(package))
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


def milliseconds(text: str) -> float:
    """Read a length of time in milliseconds.

    >>> milliseconds("2.5")
    2.5
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds")
    return value


def memory_size(text: str) -> int:
    """Read a number of bytes such as ``8GiB``."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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


def _check_wheels(wheels: list[Path]) -> None:
    for wheel in wheels:
        if wheel.suffix != ".whl" or not wheel.is_file():
            raise UsageError(f"{wheel} is no wheel", hint="name a .whl file")


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    from torchgauge.deploy.contents.extras import require

    load_file = require("safetensors.torch", "serve", "read a .safetensors file").load_file
    try:
        tensors: dict[str, torch.Tensor] = load_file(str(path))
    except Exception as error:
        raise UsageError(
            f"{path} cannot be read as inputs: {error}", hint="write it with safetensors"
        ) from error
    return tensors


# ---------------------------------------------------------------------------- result


def _as_text(package: Package) -> str:
    signature = package.signature
    lines = [f"{package.report.model_name} → {package.folder}"]
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        lines += [
            f"  {kind:<10} {t.name} [{', '.join(map(str, t.shape))}] {t.dtype}" for t in tensors
        ]
    ranges = ", ".join(f"{name} {sizes}" for name, sizes in signature.dimensions.items())
    lines.append(f"  {'varies':<10} {ranges or 'nothing: all sizes are fixed'}")
    worst = max(package.comparisons, key=lambda item: item.max_difference)
    lines.append(
        f"  {'difference':<10} {worst.max_difference:.3g} at most "
        f"({worst.max_relative_difference:.3g} relative), "
        f"{format_number_of(len(package.comparisons), 'choice')} of sizes, program against model"
    )
    for table in package.memory:
        line = table.lines[-1]
        limits = "".join(f", {name} {size}" for name, size in line.up_to.items())
        peak = f"{format_bytes(line.peak_bytes(1))} on {table.device}"
        if "batch" in signature.dimensions:
            more = format_bytes(line.bytes_per_sample)
            peak += f" (batch 1{limits}), {more} more per sample"
        else:
            peak += f" ({limits.removeprefix(', ')})" if limits else ""
        lines.append(f"  {'memory':<10} {peak}")
        times = ", ".join(
            format_milliseconds(ms)
            + (f" (batch {batch})" if "batch" in signature.dimensions else "")
            for batch, ms in line.milliseconds.items()
        )
        if times:
            lines.append(f"  {'time':<10} {times} on {table.device}{limits}")
    lines += [f"  note       {note}" for note in package.notes]
    lines.append(f"serve it: torchgauge serve {package.folder}")
    return "\n".join(lines)


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
