"""How much power a board has for its rate, compared with the other boards of its architecture."""

from __future__ import annotations

from functools import cache
from statistics import median

from torchgauge.devices.catalog import built_in
from torchgauge.devices.device import Arithmetic, Device, Kind


def headroom(device: Device, arithmetic: Arithmetic) -> float:
    """Return the watts per FLOP as a share of those of its siblings, at most 1.

    >>> from torchgauge.devices import find_device
    >>> headroom(find_device("T4"), Arithmetic.FP32) < 0.6
    True
    """
    own = _watts_per_flop(device, arithmetic)
    others = _siblings(device.architecture, arithmetic, device.kind is Kind.CONSUMER)
    return 1.0 if own is None or others is None else min(1.0, own / others)


def _watts_per_flop(device: Device, arithmetic: Arithmetic) -> float | None:
    peak = device.peak_rate(arithmetic)
    return device.tdp_watts / peak if peak and device.tdp_watts else None


@cache
def _siblings(architecture: str, arithmetic: Arithmetic, consumer: bool) -> float | None:
    """Return the median watts per FLOP of an architecture, without laptops and small boards.

    Tensor cores of consumer boards run at half rate, so only those are compared with each other.
    """
    if not architecture:
        return None
    apart = arithmetic is not Arithmetic.FP32
    watts = [
        _watts_per_flop(device, arithmetic)
        for device in built_in()
        if device.architecture == architecture
        and device.kind in (Kind.DATACENTER, Kind.WORKSTATION, Kind.CONSUMER)
        and (not apart or (device.kind is Kind.CONSUMER) == consumer)
    ]
    return median(known) if (known := [value for value in watts if value is not None]) else None
