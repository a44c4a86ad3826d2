"""The columns of a table of devices, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torchgauge.devices import Arithmetic, Device
from torchgauge.devices.device import rate_field
from torchgauge.units import format_bytes

UNKNOWN, LACKING, DERIVED = "?", "none", "~"


@dataclass(frozen=True, slots=True)
class DeviceColumn:
    """One column; the least important leave first where the width is short."""

    title: str
    value: Callable[[Device], str]
    importance: int
    is_number: bool = True


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


def _stated(device: Device) -> str:
    return f"{device.memory_bytes / 2**30:g} GB {device.memory_type}".rstrip()


def _power(device: Device) -> str:
    return UNKNOWN if device.tdp_watts is None else f"{device.tdp_watts:g} W"


def _plain(value: object) -> str:
    return UNKNOWN if value in (None, "") else f"{value}"


COLUMNS: tuple[DeviceColumn, ...] = (
    DeviceColumn("Device", lambda device: device.name, 100, is_number=False),
    DeviceColumn("Kind", lambda device: device.kind.value, 40, is_number=False),
    DeviceColumn("Usable", _memory, 90),
    DeviceColumn("Bandwidth", _bandwidth, 80),
    DeviceColumn("CC", _capability, 60),
    DeviceColumn("fp32", _rate(Arithmetic.FP32), 70),
    DeviceColumn("tf32", _rate(Arithmetic.TF32), 30),
    DeviceColumn("fp16", _rate(Arithmetic.FP16), 65),
    DeviceColumn("bf16", _rate(Arithmetic.BF16), 68),
    DeviceColumn("fp8", _rate(Arithmetic.FP8), 29),
    DeviceColumn("int8", _rate(Arithmetic.INT8), 28),
    DeviceColumn("SMs", lambda device: _plain(device.sm_count), 27),
    DeviceColumn("Memory", lambda d: f"{d.memory_bytes / 2**30:g} GB {d.memory_type}".strip(), 26),
    DeviceColumn(
        "TDP", lambda d: _plain(None if d.tdp_watts is None else f"{d.tdp_watts:g} W"), 25
    ),
    DeviceColumn("Released", lambda device: _plain(device.released), 24),
    DeviceColumn("Architecture", lambda device: _plain(device.architecture), 23, is_number=False),
)

LEGEND: Mapping[str, str] = {
    "Usable": "usable: memory as the driver reports it",
    "fp32": "fp32 … int8: peak dense Tera-operations per second",
    "CC": "CC: compute capability",
}
"""What is explained under the table, by the column that it is about."""

MARKS = (
    f"{DERIVED} by rule, not measured or stated · {UNKNOWN} not known · {LACKING}: not in hardware"
)
