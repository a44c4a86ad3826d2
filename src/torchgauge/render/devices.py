"""Devices → ``str``, in each format."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from torchgauge.devices import Device
from torchgauge.devices.local import LocalGpu
from torchgauge.render import latex, markdown
from torchgauge.render.csv import safe
from torchgauge.render.device_columns import COLUMNS, LEGEND, MARKS, DeviceColumn
from torchgauge.render.layout import ColumnSize, fit, pad, shorten, wrap
from torchgauge.units import format_bytes

_GAP = 2
_ASCII = str.maketrans({"–": "-", "…": "...", "·": "|", "─": "-"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeviceList:
    """What ``torchgauge devices`` shows."""

    devices: Sequence[Device]
    known: int
    """How many devices there are in all."""
    local: Sequence[LocalGpu]


def render_devices(shown: DeviceList, format: str, *, width: int = 80, ascii: bool = False) -> str:
    """Return the devices as text of a format; ``width`` and ``ascii`` are for ``text``."""
    if format != "text":
        return _RENDERERS[format](shown)
    text = "\n".join(_text(shown, width, "..." if ascii else "…"))
    return text.translate(_ASCII) if ascii else text


def describe_local(gpu: LocalGpu) -> str:
    """Return one GPU of this machine in a line.

    >>> describe_local(LocalGpu(index=0, name="Tesla T4", total_bytes=16 << 30,
    ...     free_bytes=15 << 30, read_with="nvidia-smi"))
    'GPU 0 here: Tesla T4 (T4 in this list), 15.00 GiB of 16.00 GiB free, read with nvidia-smi'
    """
    row = gpu.device
    called = "not in this list" if row is None else f"{row.name} in this list"
    total = format_bytes(gpu.total_bytes)
    free = "" if gpu.free_bytes is None else f"{format_bytes(gpu.free_bytes)} of "
    memory = f"{free}{total} free" if free else f"{total}, free not known"
    return f"GPU {gpu.index} here: {gpu.name} ({called}), {memory}, read with {gpu.read_with}"


def device_fields(device: Device) -> dict[str, Any]:
    """Return every field of a device as JSON has it, and what follows from them."""
    fields = {
        field.name: _plain(getattr(device, field.name)) for field in dataclasses.fields(device)
    }
    return {**fields, "usable_is_measured": device.usable_is_measured}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


# ---------------------------------------------------------------------------- text


def _text(shown: DeviceList, width: int, ellipsis: str) -> Iterator[str]:
    for gpu in shown.local:
        yield from wrap(describe_local(gpu).split(", "), width, indent="  ")
    if not shown.local:
        yield "No GPU found on this machine."
    yield ""
    columns = _fitted(shown.devices, width)
    cells = [[column.value(device) for column in COLUMNS] for device in shown.devices]
    yield _line([column.title for column in COLUMNS], columns, ellipsis)
    yield "─" * min(sum(columns.values()) + _GAP * (len(columns) - 1), width)
    for row in cells:
        yield _line(row, columns, ellipsis)
    yield ""
    counted = f"{len(shown.devices)} of {shown.known} devices"
    notes = [text for title, text in LEGEND.items() if title in columns]
    left_out = [column.title for column in COLUMNS if column.title not in columns]
    yield from wrap([counted, *notes, *MARKS.split(" · ")], width)
    if left_out:
        yield from wrap(
            [f"not shown for lack of width: {', '.join(left_out)} (--width, --format json)"], width
        )


def _fitted(devices: Sequence[Device], width: int) -> dict[str, int]:
    sizes = []
    for column in COLUMNS:
        natural = max([len(column.title), *(len(column.value(device)) for device in devices)])
        sizes.append(ColumnSize(column.title, (natural,), column.importance))
    return fit(sizes, width, _GAP)


def _line(cells: Sequence[str], widths: Mapping[str, int], ellipsis: str) -> str:
    shown = [
        pad(shorten(cell, widths[column.title], ellipsis), widths[column.title],
            right=column.is_number)
        for cell, column in zip(cells, COLUMNS, strict=True)
        if column.title in widths
    ]  # fmt: skip
    return (" " * _GAP).join(shown).rstrip()


# ---------------------------------------------------------------------------- other formats


def _json(shown: DeviceList) -> str:
    local = [
        {**dataclasses.asdict(gpu), "device": None if gpu.device is None else gpu.device.name}
        for gpu in shown.local
    ]
    content = {
        "schema_version": 1,
        "local_gpus": local,
        "devices": [device_fields(device) for device in shown.devices],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _csv(shown: DeviceList) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [*(field.name for field in dataclasses.fields(Device)), "usable_is_measured"]
    writer.writerow(names)
    for device in shown.devices:
        writer.writerow([_cell(value) for value in device_fields(device).values()])
    return stream.getvalue().rstrip("\n")


def _cell(value: Any) -> object:
    if isinstance(value, list):
        joint = "." if value and isinstance(value[0], int) else "; "
        return safe(joint.join(str(item) for item in value))
    return safe(value) if isinstance(value, str) else value


def _markdown(shown: DeviceList) -> str:
    lines = [
        "| " + " | ".join(column.title for column in COLUMNS) + " |",
        "|" + "|".join(" ---: " if column.is_number else " --- " for column in COLUMNS) + "|",
    ]
    for device in shown.devices:
        cells = (markdown.escape(column.value(device)) for column in COLUMNS)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", markdown.escape(_legend())])


def _latex(shown: DeviceList) -> str:
    def row(cells: Iterator[str]) -> str:
        return "  " + " & ".join(latex.escape(cell) for cell in cells) + r" \\"

    def values(device: Device) -> Iterator[str]:
        return (column.value(device) for column in COLUMNS)

    return "\n".join(
        [
            r"\begin{tabular}{" + "".join(_letter(column) for column in COLUMNS) + "}",
            r"  \hline",
            row(column.title for column in COLUMNS),
            r"  \hline",
            *(row(values(device)) for device in shown.devices),
            r"  \hline",
            r"\end{tabular}",
            "",
            latex.escape(_legend()),
        ]
    )


def _letter(column: DeviceColumn) -> str:
    return "r" if column.is_number else "l"


def _legend() -> str:
    return " · ".join([*LEGEND.values(), MARKS])


_RENDERERS: Mapping[str, Callable[[DeviceList], str]] = {
    "json": _json,
    "csv": _csv,
    "markdown": _markdown,
    "latex": _latex,
}
