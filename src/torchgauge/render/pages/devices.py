"""Devices as a page, and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

from torchgauge.devices import Arithmetic, Device, all_devices
from torchgauge.devices.catalog import LocalGpu
from torchgauge.devices.device import rate_field
from torchgauge.render.page import Column, Data, Fact, Facts, Notes, Page, fact, table_of
from torchgauge.units import format_bytes, format_percent

UNKNOWN, LACKING, DERIVED = "?", "none", "~"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeviceList:
    """What ``torchgauge devices`` shows."""

    devices: Sequence[Device]
    known: int
    """How many devices there are in all."""
    local: Sequence[LocalGpu] | None
    """The GPUs of this machine; ``None`` where nobody looked."""

    def to_json(self) -> str:
        """Return every field of every device."""
        local = [
            {**dataclasses.asdict(gpu), "device": None if gpu.device is None else gpu.device.name}
            for gpu in self.local or ()
        ]
        content = {
            "schema_version": 1,
            "local_gpus": local,
            "devices": [device_fields(device) for device in self.devices],
        }
        return json.dumps(content, indent=2, ensure_ascii=False)


def devices_page(shown: DeviceList) -> Page:
    """Return what is shown of devices."""
    facts = [_local(gpu) for gpu in shown.local or ()]
    if shown.local is not None and not facts:
        facts = [fact("GPUs here", "none found on this machine")]
    facts.append(fact("Listed", f"{len(shown.devices)} of {shown.known} devices"))
    rows = [tuple(write(device) for _, write in _COLUMNS) for device in shown.devices]
    legend = (
        "Usable: memory as the driver reports it. CC: compute capability.",
        "fp32 … int8: peak dense TFLOP/s (int8: TOP/s). "
        f"{DERIVED}: estimated by a rule. {UNKNOWN}: unknown. {LACKING}: no such hardware.",
    )
    return Page(
        title=("Devices",),
        is_about_a_model=False,
        blocks=(
            Facts(facts=tuple(facts)),
            table_of(tuple(column for column, _ in _COLUMNS), rows),
            Notes(lines=legend, calm=len(legend)),
            _data(shown.devices),
        ),
    )


def catalog_page(devices: Sequence[Device]) -> Page:
    """Return what is shown of devices that were looked up; this machine is not examined."""
    return devices_page(DeviceList(devices=devices, known=len(all_devices()), local=None))


def device_page(device: Device) -> Page:
    """Return what is known of one device."""
    told = ((column.title, write(device)) for column, write in _COLUMNS[1:])
    facts = [
        fact(title, _with_unit(title, text))
        for title, text in told
        if text not in (UNKNOWN, "–", "")
    ]
    notes = [Notes(lines=device.sources, heading="Sources")] if device.sources else []
    legend = f"fp32 … int8: peak dense rates. {DERIVED}: estimated by a rule, no source states it."
    return Page(
        title=(device.name, *((device.vendor,) if device.vendor else ())),
        blocks=(
            Facts(facts=tuple(facts)),
            Notes(lines=(legend,), calm=1),
            *notes,
            _data((device,)),
        ),
    )


def _with_unit(title: str, text: str) -> str:
    if title not in set(Arithmetic) or text == LACKING:
        return text
    return f"{text} {'TOP/s' if title == Arithmetic.INT8 else 'TFLOP/s'}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredDevice:
    """What ``torchgauge devices --measure`` shows."""

    device: Device
    """With what was measured."""
    path: str
    """The file that keeps it."""

    def to_json(self) -> str:
        """Return every field of the device, and the file."""
        content = {"schema_version": 1, "file": self.path, "device": device_fields(self.device)}
        return json.dumps(content, indent=2, ensure_ascii=False)


def measured_page(shown: MeasuredDevice) -> Page:
    """Return what a GPU was measured to reach, beside its datasheet."""
    device = shown.device
    facts = []
    for arithmetic in (Arithmetic.FP32, Arithmetic.FP16, Arithmetic.BF16):
        rate, peak = device.measured_rate(arithmetic), device.peak_rate(arithmetic)
        if rate is not None:
            share = () if peak is None else (f"{format_percent(rate, peak)} of its datasheet",)
            facts.append(fact(f"Product in {arithmetic}", f"{rate / 1e12:,.1f} TFLOP/s", *share))
    copied = device.measured_bandwidth_bytes_per_second
    if copied is not None:
        stated = format_percent(copied, device.bandwidth_bytes_per_second)
        facts.append(fact("Copy", f"{copied / 1e9:,.0f} GB/s", f"{stated} of its datasheet"))
    facts.append(fact("Kept in", shown.path))
    return Page(
        title=("Measured", device.name),
        is_about_a_model=False,
        blocks=(Facts(facts=tuple(facts)),),
    )


def _local(gpu: LocalGpu) -> Fact:
    """Return one GPU of this machine in a line.

    >>> gpu = LocalGpu(index=0, name="Tesla T4", total_bytes=16 << 30,
    ...     free_bytes=15 << 30, read_with="nvidia-smi")
    >>> _local(gpu).segments[:2]
    ('Tesla T4 (T4 in this list)', '15.00 GiB of 16.00 GiB free')
    """
    row = gpu.device
    called = "not in this list" if row is None else f"{row.name} in this list"
    total = format_bytes(gpu.total_bytes)
    memory = f"{total}, free memory not known"
    if gpu.free_bytes is not None:
        memory = f"{format_bytes(gpu.free_bytes)} of {total} free"
    segments = (f"{gpu.name} ({called})", memory, f"read with {gpu.read_with}")
    return fact(f"GPU {gpu.index} here", *segments)


def device_fields(device: Device) -> dict[str, Any]:
    """Return every field of a device as JSON has it, and what follows from them."""
    fields = {
        field.name: _as_json(getattr(device, field.name)) for field in dataclasses.fields(device)
    }
    return {**fields, "usable_is_measured": device.usable_is_measured}


def _as_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_as_json(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def _data(devices: Sequence[Device]) -> Data:
    names = (*(field.name for field in dataclasses.fields(Device)), "usable_is_measured")
    rows = (tuple(map(_joined, device_fields(device).values())) for device in devices)
    return Data(columns=names, rows=tuple(rows))


def _joined(value: Any) -> object:
    if isinstance(value, list):
        joint = "." if value and isinstance(value[0], int) else "; "
        return joint.join(str(item) for item in value)
    return str(value) if isinstance(value, bool) else value


# ---------------------------------------------------------------------------- columns


def _memory(device: Device) -> str:
    return _marked(format_bytes(device.usable_memory_bytes), device, "usable_memory_bytes")


def _bandwidth(device: Device) -> str:
    return f"{device.bandwidth_bytes_per_second / 1e9:,.0f} GB/s"


def _capability(device: Device) -> str:
    found = device.compute_capability
    return "–" if found is None else f"{found[0]}.{found[1]}"


def _rate(arithmetic: Arithmetic) -> Callable[[Device], str]:
    def value(device: Device) -> str:
        if arithmetic in device.lacks:
            return LACKING
        rate = device.peak_rate(arithmetic)
        if rate is None:
            return UNKNOWN
        tera = rate / 1e12
        text = f"{tera:,.0f}" if tera >= 100 else f"{tera:.3g}"
        return _marked(text, device, rate_field(arithmetic))

    return value


def _marked(text: str, device: Device, field: str) -> str:
    return f"{DERIVED}{text}" if field in device.derived else text


def _plain(value: object) -> str:
    return UNKNOWN if value in (None, "") else f"{value}"


def _column(
    title: str, keep: int, write: Callable[[Device], str], *, is_number: bool = True
) -> tuple[Column, Callable[[Device], str]]:
    return Column(title, keep=keep, is_number=is_number), write


def _columns() -> Iterator[tuple[Column, Callable[[Device], str]]]:
    yield _column("Device", 100, lambda device: device.name, is_number=False)
    yield _column("Kind", 40, lambda device: device.kind.value, is_number=False)
    yield _column("Usable", 90, _memory)
    yield _column("Bandwidth", 80, _bandwidth)
    yield _column("CC", 60, _capability)
    for arithmetic, keep in (
        (Arithmetic.FP32, 70), (Arithmetic.TF32, 30), (Arithmetic.FP16, 65), (Arithmetic.BF16, 68),
        (Arithmetic.FP8, 29), (Arithmetic.INT8, 28),
    ):  # fmt: skip
        yield _column(arithmetic.value, keep, _rate(arithmetic))
    yield _column("SMs", 27, lambda device: _plain(device.sm_count))
    yield _column("Memory", 26, lambda d: f"{d.memory_bytes / 2**30:g} GB {d.memory_type}".strip())
    yield _column("TDP", 25, lambda d: f"{d.tdp_watts:g} W" if d.tdp_watts else UNKNOWN)
    yield _column("Released", 24, lambda device: _plain(device.released))
    yield _column("Architecture", 23, lambda d: _plain(d.architecture), is_number=False)


_COLUMNS = tuple(_columns())
