"""How fast a board's multiprocessors run, and whether it has the power for it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from statistics import median
from typing import Final

from torchgauge.devices.catalog import built_in
from torchgauge.devices.device import Arithmetic, Device, Kind

_DOUBLE: Final = {
    (3, 5): 1 / 3, (3, 7): 1 / 3, (5, 0): 1 / 32, (5, 2): 1 / 32, (6, 0): 1 / 2, (6, 1): 1 / 32,
    (7, 0): 1 / 2, (7, 5): 1 / 32, (8, 0): 1 / 2, (9, 0): 1 / 2, (10, 0): 1 / 2,
}  # fmt: skip
"""Where float64 is not a 64th of float32, as it is from compute capability 8.6 on."""
_WITH_ITS_OWN_COOLING: Final = (Kind.DATACENTER, Kind.WORKSTATION, Kind.CONSUMER)
"""Laptops state several limits, and an embedded board's covers its processor."""
_VOLTA: Final = (7, 0)


def headroom(device: Device, arithmetic: Arithmetic) -> float:
    """Return the watts that a board has for an arithmetic, of those of its siblings, at most 1.

    On the ordinary cores watts count per FLOP, and all boards of the architecture are siblings:
    an A100 has half of the cores of an RTX 3090 in each multiprocessor. On tensor cores they count
    per multiprocessor and clock, within the chip family; cores that the maker halved (GeForce)
    need half of them.

    The sustained rate goes with a power of this share, the coefficient ``power``. Power is clock ×
    voltage² (Mei et al., arXiv 1610.01784); if the voltage fell with the clock, that power would
    be a third. It does not fall so far: an L4 with 0.4 of the watts reaches half of the rate of
    its siblings, and so do an A10 and an RTX PRO 6000 Max-Q with 0.5 of them (the sets of
    ``docs/accuracy.md``).

    >>> from torchgauge.devices import find_device
    >>> headroom(find_device("T4"), Arithmetic.FP32) < 0.6
    True
    """
    if arithmetic is Arithmetic.FP32 or not device.has_tensor_cores:
        own, others = _watts_per_flop(device), _median_per_flop(device.architecture)
        share = 1.0
    else:
        own, others = _watts_per_clock(device), _median_per_clock(family_of(device))
        share = share_of_full_rate(device, arithmetic)
    return 1.0 if own is None or others is None else min(1.0, own / (others * share))


def family_of(device: Device) -> str:
    """Return the name of the chips with the same multiprocessors.

    >>> from torchgauge.devices import find_device
    >>> family_of(find_device("RTX A6000")), family_of(find_device("MI250"))
    ('8.6', 'CDNA 2.0')
    """
    found = device.compute_capability
    return device.architecture if found is None else f"{found[0]}.{found[1]}"


def share_of_full_rate(device: Device, arithmetic: Arithmetic) -> float:
    """Return the FLOPs per clock of a board's cores, of the most that its family has.

    >>> from torchgauge.devices import find_device
    >>> round(share_of_full_rate(find_device("RTX 3090"), Arithmetic.FP16), 1)
    0.5
    """
    own, most = _per_clock(device, arithmetic), _most_per_clock(family_of(device), arithmetic)
    return 1.0 if own is None or most is None else min(1.0, own / most)


def clocks_of(device: Device) -> float | None:
    """Return the clocks of all multiprocessors in a second."""
    return (device.sm_count or 0) * (device.boost_clock_hz or 0.0) or None


def steps_per_second(device: Device) -> float:
    """Return twice the integer operations of all multiprocessors in a second.

    Kernels other than products spend their time on indices and conversions. From Volta on, 64 lanes
    of each multiprocessor compute these; before, all lanes do (CUDA C++ Programming Guide,
    "Arithmetic Instructions").
    """
    all_lanes = device.fp32_flops_per_second or 0.0
    is_old = (device.compute_capability or _VOLTA) < _VOLTA
    return all_lanes if is_old else 128.0 * (clocks_of(device) or all_lanes / 128.0)


def double_share(device: Device) -> float:
    """Return the rate of float64 as a share of float32; other makers' as by the kind of board.

    Source: NVIDIA, CUDA C++ Programming Guide, "Arithmetic Instructions" (throughput table).

    >>> from torchgauge.devices import find_device
    >>> double_share(find_device("A100-SXM-40GB")), double_share(find_device("L40S"))
    (0.5, 0.015625)
    """
    if device.compute_capability is None:
        return 1 / 2 if device.kind is Kind.DATACENTER else 1 / 32
    return _DOUBLE.get(device.compute_capability, 1 / 64)


def _watts_per_clock(device: Device) -> float | None:
    clocks = clocks_of(device)
    return device.tdp_watts / clocks if clocks and device.tdp_watts else None


def _watts_per_flop(device: Device) -> float | None:
    peak = device.fp32_flops_per_second
    return device.tdp_watts / peak if peak and device.tdp_watts else None


def _per_clock(device: Device, arithmetic: Arithmetic) -> float | None:
    clocks, peak = clocks_of(device), device.peak_rate(arithmetic)
    return peak / clocks if clocks and peak else None


@cache
def _median_per_flop(architecture: str) -> float | None:
    boards = (item for item in _boards() if architecture and item.architecture == architecture)
    return median(found) if (found := _known(map(_watts_per_flop, boards))) else None


@cache
def _median_per_clock(family: str) -> float | None:
    boards = (item for item in _boards() if family and family_of(item) == family)
    return median(found) if (found := _known(map(_watts_per_clock, boards))) else None


@cache
def _most_per_clock(family: str, arithmetic: Arithmetic) -> float | None:
    boards = (item for item in _boards() if family and family_of(item) == family)
    return max(_known(_per_clock(item, arithmetic) for item in boards), default=None)


def _boards() -> list[Device]:
    return [device for device in built_in() if device.kind in _WITH_ITS_OWN_COOLING]


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
