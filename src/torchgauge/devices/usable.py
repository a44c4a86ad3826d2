"""How much of a device's memory its driver reports, where nobody has been seen to measure it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from torchgauge.devices.device import Device, Kind


class MemoryClass(StrEnum):
    """Devices that lose about the same share of their memory to the driver."""

    AMD = "AMD"
    """ROCm reports nearly all of it."""
    UNIFIED = "unified"
    """Carve-outs of an embedded board."""
    HBM = "HBM"
    """Its error correction has memory of its own."""
    GDDR_ECC = "GDDR with ECC"
    """In-line error correction, on by default in server boards up to GDDR6, takes 1/16."""
    GDDR = "GDDR"
    """Error correction off or not there."""


USABLE_SHARE: Mapping[MemoryClass, float] = {
    MemoryClass.AMD: 0.9998,
    MemoryClass.UNIFIED: 0.954,
    MemoryClass.HBM: 0.989,
    MemoryClass.GDDR_ECC: 0.924,
    MemoryClass.GDDR: 0.984,
}
"""Reported / stated memory: the median of the measured devices of each class in ``devices.csv``.

``tests/devices/test_devices.py`` computes the medians again.
"""


def memory_class(*, vendor: str, kind: Kind, memory_type: str, unified: bool) -> MemoryClass:
    """Return the class that a device belongs to."""
    if unified:
        return MemoryClass.UNIFIED
    if vendor == "AMD":
        return MemoryClass.AMD
    if memory_type.startswith("HBM"):
        return MemoryClass.HBM
    in_line = kind is Kind.DATACENTER and not memory_type.startswith("GDDR7")
    return MemoryClass.GDDR_ECC if in_line else MemoryClass.GDDR


def class_of(device: Device) -> MemoryClass:
    """Return the class that a device of the list belongs to."""
    return memory_class(
        vendor=device.vendor,
        kind=device.kind,
        memory_type=device.memory_type,
        unified=device.unified_memory,
    )


def derive_usable(memory_bytes: int, found: MemoryClass) -> int:
    """Return the memory that the driver of such a device is expected to report, whole MiB."""
    return int(memory_bytes * USABLE_SHARE[found]) >> 20 << 20
