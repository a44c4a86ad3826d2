"""The model card: what is in a package, what it costs, and how near it is to the original."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torchgauge.deploy import manifest
from torchgauge.deploy.export.signature import BATCH, Signature, TensorSignature
from torchgauge.deploy.memory_table import MemoryTable
from torchgauge.deploy.parts import Package
from torchgauge.units import format_bytes, format_count, format_integer, format_milliseconds

_SHOWN_BATCHES = (1, 8, 32)


def model_card(package: Package, onnx: Mapping[str, Any] | None = None) -> str:
    """Return ``README.md`` of a package; ``onnx`` is what the ONNX check came to."""
    sections = (
        _head(package),
        _signature(package),
        _figures(package),
        _comparison(package, onnx),
        _memory(package.memory, package.signature),
        _time(package.memory, package.signature),
        _notes(package),
        _use(package),
    )
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _head(package: Package) -> list[str]:
    report = package.report
    origin = f" from `{report.model_spec}`" if report.model_spec else ""
    return [
        f"# {report.model_name}",
        "",
        f"Packaged by torchgauge {report.tool_version}{origin}, with PyTorch "
        f"{report.torch_version}. The weights are those of the model at that moment.",
    ]


def _signature(package: Package) -> list[str]:
    signature = package.signature
    lines = [
        "## Inputs and outputs",
        "",
        "| | name | shape | dtype | values |",
        "|---|---|---|---|---|",
    ]
    lines += [_row("input", tensor) for tensor in signature.inputs]
    lines += [_row("output", tensor) for tensor in signature.outputs]
    if signature.dimensions:
        ranges = ", ".join(f"`{name}` {sizes}" for name, sizes in signature.dimensions.items())
        lines += ["", f"Sizes that may vary: {ranges}."]
    return lines


def _row(kind: str, tensor: TensorSignature) -> str:
    values = "" if tensor.maximum is None else f"{tensor.minimum}…{tensor.maximum}"
    return f"| {kind} | `{tensor.name}` | {tensor.shape_text} | {tensor.dtype} | {values} |"


def _figures(package: Package) -> list[str]:
    report = package.report
    totals = report.totals
    macs = format_count(totals.forward_macs, "MACs")
    flops = format_count(totals.forward_flops, "FLOPs")
    lines = [
        "## Figures",
        "",
        "| | |",
        "|---|---|",
        f"| parameters | {format_integer(totals.params)}, {format_bytes(totals.param_bytes)} |",
        f"| forward, batch {report.batch_size or 1} | {macs} = {flops} |",
    ]
    if report.time is not None:
        lines.append(
            f"| time on {report.scenario.device} | {format_milliseconds(report.time.total_ms)} |"
        )
    lines += ["", f"Every layer: `{manifest.REPORT}`."]
    return lines


def _comparison(package: Package, onnx: Mapping[str, Any] | None) -> list[str]:
    kind = "the inputs given" if package.request.examples is not None else "random inputs"
    lines = [
        "## The exported program compared with the original",
        "",
        f"Both run on the CPU on {kind}; the largest absolute difference in any output, and the "
        "same divided by the largest absolute value of that output.",
        "",
        "| sizes | difference | relative |",
        "|---|---|---|",
    ]
    lines += [
        f"| {', '.join(f'{name} {size}' for name, size in item.sizes.items()) or 'fixed'} "
        f"| {item.max_difference:.3g} | {item.max_relative_difference:.3g} |"
        for item in package.comparisons
    ]
    if onnx is not None:
        lines += ["", str(onnx["text"])]
    return lines


def _memory(tables: Sequence[MemoryTable], signature: Signature) -> list[str]:
    batches = _SHOWN_BATCHES if BATCH in signature.dimensions else _SHOWN_BATCHES[:1]
    return [
        "## Memory of one forward, predicted",
        "",
        "Weights and everything else that is allocated at the peak; on a GPU what the device "
        "shows as used.",
        "",
        *_header(batches, signature),
        *_memory_rows(tables, batches),
    ]


def _header(batches: Sequence[int], signature: Signature) -> tuple[str, str]:
    fixed = BATCH not in signature.dimensions
    columns = ["one forward"] if fixed else [f"batch {batch}" for batch in batches]
    return f"| device | up to | {' | '.join(columns)} |", "|---|---|" + "---|" * len(columns)


def _memory_rows(tables: Sequence[MemoryTable], batches: Sequence[int]) -> Iterator[str]:
    for table in tables:
        for line in table.lines:
            limits = ", ".join(f"{name} {size}" for name, size in line.up_to.items())
            peaks = " | ".join(format_bytes(line.peak_bytes(batch)) for batch in batches)
            yield f"| {table.device} | {limits or 'any'} | {peaks} |"


def _time(tables: Sequence[MemoryTable], signature: Signature) -> list[str]:
    timed = [(table, line) for table in tables for line in table.lines if line.milliseconds]
    if not timed:
        return []
    batches = list(timed[0][1].milliseconds)
    lines = ["## Time of one forward, predicted", "", *_header(batches, signature)]
    for table, line in timed:
        limits = ", ".join(f"{name} {size}" for name, size in line.up_to.items())
        times = " | ".join(map(format_milliseconds, line.milliseconds.values()))
        lines.append(f"| {table.device} | {limits or 'any'} | {times} |")
    return lines


def _notes(package: Package) -> list[str]:
    report = package.report
    gaps = [f"not counted: {gap.op} ({gap.calls} ×): {gap.why}" for gap in report.not_counted]
    notes = [*package.notes, *report.assumptions, *report.warnings, *gaps]
    return ["## Notes", "", *(f"- {note}" for note in notes)] if notes else []


def _use(package: Package) -> list[str]:
    names = [tensor.name.replace(".", "_") for tensor in package.signature.inputs]
    arguments = ", ".join(names)
    return [
        "## Use",
        "",
        "```console",
        "$ torchgauge serve .                       # POST /v1/predict, /docs, /metrics",
        "$ docker build -t model . && docker run -p 8000:8000 model",
        "```",
        "",
        "```python",
        "import torch",
        "",
        f'program = torch.export.load("{manifest.PROGRAM}").module()',
        f"outputs = program({arguments})  # tensors in the order above; a tuple of tensors",
        "```",
        "",
        f"`{manifest.WEIGHTS}` holds the weights under the names of the original model, "
        f"`{manifest.LOCK}` the versions that all this was checked with, `{manifest.MANIFEST}` the "
        "SHA-256 of every file.",
    ]
