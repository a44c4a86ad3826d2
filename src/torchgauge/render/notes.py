"""What stands after the table: the size lines, the failure, and everything a reader must know.

Nothing that a report lists may be missing here: what was not counted, never called, assumed and
warned about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torchgauge.facts.query import never_called
from torchgauge.facts.report import Report
from torchgauge.facts.trace import Phase, Role
from torchgauge.render.answers import is_module, layer_output_bytes, missing_formulas, named_value
from torchgauge.render.figures import mebibytes
from torchgauge.render.shapes import one_line
from torchgauge.units import format_bytes, format_integer, format_milliseconds, format_percent


@dataclass(frozen=True, slots=True)
class FooterLine:
    """A figure under the table, with what it is."""

    label: str
    value: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A heading with its lines."""

    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureView:
    """Where the model failed, what it got there, the error, and what to try."""

    where: str
    inputs: tuple[str, ...]
    error: tuple[str, ...]
    """The lines of the original error, its type first."""
    hint: str


def footer(report: Report) -> tuple[FooterLine, ...]:
    """Return the lines that summaries of models end in, each with what it is."""
    return (*_parameter_lines(report), *_size_lines(report))


def failure_view(report: Report) -> FailureView | None:
    """Return the failure as text, ``None`` when the model ran through."""
    failure = report.failure
    if failure is None:
        return None
    path = one_line(failure.path) or "the model itself"
    lines = f"{failure.error_type}: {failure.error}".splitlines() or [failure.error_type]
    sizes = []
    if failure.requested_bytes is not None:
        sizes.append(f"{format_bytes(failure.requested_bytes)} asked for")
    if failure.free_bytes is not None:
        sizes.append(f"{format_bytes(failure.free_bytes)} free")
    if sizes:
        lines.append(f"memory: {', '.join(sizes)}")
    where = f"{path} ({one_line(failure.module_type)})"
    if failure.phase is Phase.OPTIMIZER:
        where = one_line(failure.module_type)
    return FailureView(
        where=f"{where}, in {failure.phase}",
        inputs=tuple(named_value(value, report.batch_size) for value in failure.inputs),
        error=tuple(one_line(line) for line in lines if line.strip()),
        hint=one_line(failure.hint),
    )


def notes(report: Report, *, rows_note: tuple[str, ...] = ()) -> tuple[Note, ...]:
    """Return everything that a reader must know; ``rows_note`` explains signs in the table."""
    uncounted = tuple(
        f"{one_line(entry.op)}, {_times(entry.calls)}: {one_line(entry.why)}"
        for entry in missing_formulas(report)
    )
    found = (
        Note("Rows", rows_note),
        Note("Alive at the peak, the largest", tuple(_alive(report))),
        Note("Worth speeding up, with the gain at the roof of the device", tuple(_worth(report))),
        Note("Not counted", uncounted),
        Note("Never called", tuple(_never_called(report))),
        Note("Shared, counted once", tuple(_shared(report))),
        Note("Assumptions", tuple(one_line(text) for text in report.assumptions)),
        Note("Warnings", tuple(one_line(text) for text in report.warnings)),
    )
    return tuple(note for note in found if note.lines)


# ---------------------------------------------------------------------------- size lines


def _parameter_lines(report: Report) -> Iterator[FooterLine]:
    totals = report.totals
    yield FooterLine("Total params", format_integer(totals.params))
    yield FooterLine("Trainable params", format_integer(totals.trainable_params))
    yield FooterLine("Non-trainable params", format_integer(totals.non_trainable_params))
    if totals.buffers:
        size = format_bytes(totals.buffer_bytes)
        yield FooterLine("Buffers", format_integer(totals.buffers), f"{size}, no parameters")


def _size_lines(report: Report) -> Iterator[FooterLine]:
    memory = report.memory
    if memory is not None:
        yield FooterLine("Input size", mebibytes(memory.input_bytes))
        if report.scenario.is_training:
            yield FooterLine(
                "Forward/backward pass size",
                mebibytes(memory.saved_activation_bytes),
                "saved for the backward",
            )
        else:
            yield FooterLine(
                "Forward/backward pass size",
                mebibytes(layer_output_bytes(report)),
                "layer outputs, few kept at a time",
            )
    yield FooterLine("Params size", mebibytes(report.totals.param_bytes))
    if memory is not None:
        kind = "peak of all tensors, " + str(report.execution)
        if report.failure is not None:
            kind += ", until the failure"
        size = memory.peak_allocated_bytes
        if memory.device_bytes is not None:
            size = memory.device_bytes
            kind = "on the device: allocator and CUDA context, " + str(report.execution)
        yield FooterLine("Estimated total size", mebibytes(size), kind)


# ---------------------------------------------------------------------------- notes


def _worth(report: Report) -> Iterator[str]:
    """Yield what would gain most if it ran at the datasheet's rate: its time, and what it is."""
    predicted = report.time.predicted if report.time is not None else None
    if report.time is None or predicted is None:
        return
    for item in predicted.bottlenecks:
        gain = format_percent(item.gain_ms, report.time.total_ms)
        times = f"{format_milliseconds(item.time_ms)} → {format_milliseconds(item.roof_ms)}"
        where = f" in {one_line(item.module)}" if item.module else ""
        yield (
            f"{gain} of the step: {times}, {one_line(item.op)}{where}, {item.phase}, "
            f"{_times(item.calls)}, bound by {item.bound_by}"
        )


def _alive(report: Report) -> Iterator[str]:
    """Yield the largest blocks at the peak: size, role, tensor, and who made them where.

    An inference on the CPU stays calm: what it holds at most is a layer's input and output.
    """
    if report.memory is None or not (report.scenario.is_training or report.memory.device_bytes):
        return
    for tensor in report.memory.alive_at_peak:
        parts = [format_bytes(tensor.nbytes), str(tensor.role).replace("_", " ")]
        if tensor.shape is not None:
            sizes = ", ".join(map(str, tensor.shape))
            parts.append(f"[{sizes}] {tensor.dtype}")
        named = tensor.role in (Role.PARAMETER, Role.BUFFER, Role.GRADIENT, Role.INPUT)
        parts.append(one_line(tensor.label))
        if tensor.module and not named:
            parts.append(f"in {one_line(tensor.module)}")
        if tensor.code:
            parts.append(f"at {one_line(tensor.code)}")
        yield " ".join(part for part in parts if part)


def _times(calls: int) -> str:
    return "1 call" if calls == 1 else f"{format_integer(calls)} calls"


def _never_called(report: Report) -> Iterator[str]:
    listed = {entry.op for entry in report.not_counted if is_module(entry, report)}
    for entry in report.not_counted:
        if entry.op in listed:
            yield f"{one_line(entry.op)}: {one_line(entry.why)}"
    others = [
        f"{module.path} ({module.type})"
        for module in never_called(report)
        if module.path not in listed and not _is_below(module.path, listed)
    ]
    yield from _grouped(others)


def _is_below(path: str, above: Iterable[str]) -> bool:
    return any(path.startswith(f"{other}.") for other in above)


def _shared(report: Report) -> Iterator[str]:
    pairs: list[str] = []
    for path, module in report.modules.items():
        if module.shared_with is not None:
            pairs.append(f"{path} is {module.shared_with or 'the model'}")
        pairs += [
            f"{item.name} is {item.shared_with}"
            for item in module.own_parameters
            if item.shared_with is not None
        ]
    yield from _grouped(pairs)


def _grouped(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines that differ in their numbers only as one, with how many there are."""
    groups: dict[str, list[str]] = {}
    for line in lines:
        text = one_line(line)
        groups.setdefault(re.sub(r"\d+", "0", text), []).append(text)
    for texts in groups.values():
        yield texts[0] if len(texts) == 1 else f"{_pattern(texts)} × {len(texts)}"


def _pattern(texts: list[str]) -> str:
    """Return the text that all of them share, with ``*`` for the numbers that differ."""
    pieces = [re.split(r"(\d+)", text) for text in texts]
    same = zip(*pieces, strict=True)
    return "".join(piece[0] if len(set(piece)) == 1 else "*" for piece in same)
