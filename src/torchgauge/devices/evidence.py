"""What is known of a device's sustained rates: measured on it, on a sibling, or stated only."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from math import exp, inf, log
from typing import Final

from torchgauge.devices.catalog import built_in
from torchgauge.devices.device import Arithmetic, Device, Kind
from torchgauge.devices.power import family_of, share_of_full_rate
from torchgauge.devices.usable import class_of

_FEW_LANES: Final = (8, 0)
"""The last capability whose schedulers have fewer lanes than threads of a warp."""


class Rate(StrEnum):
    """The rates of a device that differ from its datasheet's by a factor of their own."""

    TENSOR = "tensor"
    """Matrix products, convolutions and attention in fp16, bf16, tf32, fp8 and int8."""
    VECTOR = "vector"
    """The ordinary cores: products in fp32."""
    BANDWIDTH = "bandwidth"
    """Copies, element-wise work, norms: whatever waits for memory."""


class Evidence(StrEnum):
    """Where a sustained rate comes from, the best first."""

    MEASURED = "measured"
    """Measurements of this very GPU determine it: a public set, or the user's own."""
    SIBLING = "sibling"
    """Measurements of a GPU with the same multiprocessors do, or a published one of its family."""
    DATASHEET = "datasheet"
    """Nothing of its kind was measured: the datasheet's rate, less what others lose of theirs."""


def evidence_of(device: Device, rate: Rate, coefficients: Mapping[str, float]) -> Evidence:
    """Return how a sustained rate of a device is known; each of its rates has its own evidence.

    A set of measurements tells of a rate only if its steps depend on it: float32 transformers on a
    T4 say nothing of its tensor cores. Then ``coefficients`` have no factor of that rate.

    >>> from torchgauge.devices import find_device
    >>> from torchgauge.devices.tables import coefficients
    >>> evidence_of(find_device("T4"), Rate.VECTOR, coefficients()).value
    'measured'
    """
    if _is_measured_here(device, rate) or f"{device.name}.{rate}" in coefficients:
        return Evidence.MEASURED
    is_known = _published(device, rate, coefficients) or _of_kin(device, rate, coefficients)
    return Evidence.SIBLING if is_known else Evidence.DATASHEET


def evidence_text(device: Device, coefficients: Mapping[str, float]) -> str:
    """Say how each rate of a device is known, the best known first.

    >>> from torchgauge.devices import find_device
    >>> evidence_text(find_device("T4"), {"T4.vector": 0.9, "T4.bandwidth": 0.9})
    'rates of T4: fp32 cores and memory measured on it, tensor cores by its datasheet alone'
    """
    by_evidence: dict[Evidence, list[str]] = {item: [] for item in Evidence}
    for rate, called in _CALLED.items():
        if rate is Rate.TENSOR and not device.has_tensor_cores:
            continue
        by_evidence[evidence_of(device, rate, coefficients)].append(called)
    parts = [f"{_listed(rates)} {_KNOWN[item]}" for item, rates in by_evidence.items() if rates]
    return f"rates of {device.name}: {', '.join(parts)}"


_CALLED: Final = {
    Rate.TENSOR: "tensor cores",
    Rate.VECTOR: "fp32 cores",
    Rate.BANDWIDTH: "memory",
}
_KNOWN: Final = {
    Evidence.MEASURED: "measured on it",
    Evidence.SIBLING: "measured on a sibling",
    Evidence.DATASHEET: "by its datasheet alone",
}


def _listed(rates: list[str]) -> str:
    return " and ".join((", ".join(rates[:-1]), rates[-1])) if len(rates) > 1 else rates[0]


def factor_of(device: Device, rate: Rate, coefficients: Mapping[str, float]) -> float:
    """Return the share of the datasheet's rate that a device sustains, power left aside.

    That is the device's own, else what is expected of it times how far its measured siblings are
    from what is expected of them. One sibling tells half of its distance, two tell two thirds:
    boards of a chip differ from each other about as much as chips do. What is published of the
    chips counts as a sibling that is as expected.
    """
    own = coefficients.get(f"{device.name}.{rate}")
    if own is not None:
        return own
    expected = expected_of(device, rate, coefficients)
    found = [
        log(coefficients[f"{other.name}.{rate}"] / expected_of(other, rate, coefficients))
        for other in _of_kin(device, rate, coefficients)
    ]
    known = len(found) + len(_published(device, rate, coefficients))
    return expected * exp(sum(found) / (known + 1))


def expected_of(device: Device, rate: Rate, c: Mapping[str, float]) -> float:
    """Return the share that is expected of a board that nobody measured, from how it is built.

    That is the common share, of which what is published of its chips (``Hopper.tensor``), else

    - *Tensor cores*: GeForce boards clock beyond what is listed.
    - *Ordinary cores*: a scheduler with 32 lanes of float32 issues one instruction per clock, so
      that each load and each address costs a multiplication (from compute capability 8.6 on; 16
      lanes before, and two instructions per clock before Volta: CUDA C++ Programming Guide,
      "Compute Capabilities").
    - *Memory*: what a multiprocessor has in flight is limited (Little's law): one that should move
      more bytes per second than that does not. On an H200 with all threads there a kernel that
      reads 8 bytes in each reaches 57 % of the bandwidth, and 97 % on an A40
      (te42kyfo/gpu-benches, gpu-stream). GeForce boards have no error correction, and clock their
      L2 beyond what is listed.
    """
    published = _published(device, rate, c)
    if published:
        return c[rate] * published[0]
    if rate is Rate.TENSOR:
        return c[rate] * (c["tensor.geforce"] if device.kind is Kind.CONSUMER else 1.0)
    if rate is Rate.VECTOR:
        shares_issue = (device.compute_capability or _FEW_LANES) > _FEW_LANES
        return c[rate] * (c["vector.one_issue"] if shares_issue else 1.0)
    common = c[rate] * (c["bandwidth.geforce"] if device.kind is Kind.CONSUMER else 1.0)
    each = device.bandwidth_bytes_per_second / (device.sm_count or inf)
    reached: float = common / (1.0 + (each / 1e9 / c["bandwidth.in_flight"]) ** 2) ** 0.5
    return reached


def _chips(device: Device) -> tuple[str, str]:
    return family_of(device), device.architecture


def _published(device: Device, rate: Rate, c: Mapping[str, float]) -> list[float]:
    return [c[name] for name in (f"{chips}.{rate}" for chips in _chips(device)) if name in c][:1]


def _of_kin(device: Device, rate: Rate, coefficients: Mapping[str, float]) -> list[Device]:
    """Return the measured devices that are like a device in what decides a rate."""
    own = kin(device, rate)
    return [
        other
        for other in built_in()
        if f"{other.name}.{rate}" in coefficients and kin(other, rate) == own
    ]


def kin(device: Device, rate: Rate) -> tuple[object, ...]:
    """Return what siblings share: multiprocessors, and whole or halved tensor cores, or memory."""
    if rate is Rate.BANDWIDTH:
        return device.memory_type, class_of(device)
    if rate is Rate.VECTOR:
        return (family_of(device),)
    return family_of(device), share_of_full_rate(device, Arithmetic.FP16) < 0.75


def _is_measured_here(device: Device, rate: Rate) -> bool:
    if rate is Rate.BANDWIDTH:
        return device.measured_bandwidth_bytes_per_second is not None
    arithmetic = Arithmetic.FP32 if rate is Rate.VECTOR else Arithmetic.FP16
    return device.measured_rate(arithmetic) is not None
