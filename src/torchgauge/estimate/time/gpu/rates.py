"""What a device sustains: its datasheet's peaks, less what power and clocks take.

A datasheet's rate is reached at the boost clock. A board that has little power for its rate lowers
its clock under load: a T4 has half the watts per FLOP of its siblings. The siblings are the other
devices of the catalogue with that architecture; dynamic power grows with clock × voltage², so the
clock that a power allows goes with a root of it (coefficient ``power``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torchgauge.devices import Device
from torchgauge.devices.device import Arithmetic, Kind
from torchgauge.devices.power import headroom
from torchgauge.estimate.time.gpu.cost import Rates
from torchgauge.estimate.time.kernels.work import Work

_BY_DTYPE: Final[Mapping[str, Arithmetic]] = {
    "float16": Arithmetic.FP16,
    "bfloat16": Arithmetic.BF16,
    "float8_e4m3fn": Arithmetic.FP8,
    "float8_e5m2": Arithmetic.FP8,
    "int8": Arithmetic.INT8,
    "uint8": Arithmetic.INT8,
}
_DOUBLE_SHARE: Final[Mapping[bool, float]] = {True: 1 / 2, False: 1 / 32}
"""Rate of float64 as a share of float32: boards for data centers, and all others.

Source: NVIDIA, CUDA C++ Programming Guide, "Arithmetic Instructions" (throughput table)."""


def arithmetic_of(work: Work, device: Device, *, tf32_matmul: bool) -> Arithmetic:
    """Return in which number format a device multiplies for a kernel.

    float32 convolutions take TF32 where the hardware has it, as ``cudnn.allow_tf32`` does by
    default; matrix products only if the scenario says so.
    """
    wanted = _BY_DTYPE.get(work.dtype, Arithmetic.FP32)
    if work.dtype == "float32" and (work.is_convolution or tf32_matmul):
        wanted = Arithmetic.TF32
    if device.peak_rate(wanted) is None:
        return Arithmetic.FP32
    return wanted


def rates_of(
    device: Device,
    arithmetic: Arithmetic,
    coefficients: Mapping[str, float],
    *,
    share: float = 1.0,
    is_portable: bool = False,
) -> Rates:
    """Return what a device sustains in an arithmetic; ``share`` of it for slower formats.

    ``is_portable``: by instructions that earlier architectures have too. On Hopper those reach a
    part of the tensor cores' rate (coefficient ``Hopper.portable``).
    """
    vector_peak = device.fp32_flops_per_second or 0.0
    vector = (
        vector_peak
        * _own(device, "vector", coefficients)
        * headroom(device, Arithmetic.FP32) ** coefficients["power"]
    )
    compute = vector
    if arithmetic is not Arithmetic.FP32:
        peak = device.peak_rate(arithmetic) or vector_peak
        compute = (
            peak
            * _own(device, "tensor", coefficients)
            * headroom(device, arithmetic) ** coefficients["power"]
        )
        if is_portable:
            compute *= coefficients.get(f"{device.architecture}.portable", 1.0)
    return Rates(
        compute=compute * share,
        vector=vector * share,
        bandwidth=device.bandwidth_bytes_per_second * _own(device, "bandwidth", coefficients),
        cache_bytes=float(device.l2_bytes or 0),
        processors=float(device.sm_count or 1),
        copies_layout=_copied(arithmetic, coefficients),
    )


def _copied(arithmetic: Arithmetic, coefficients: Mapping[str, float]) -> float:
    """Return the share of NCHW operands that tensor cores want with their channels last."""
    if arithmetic is Arithmetic.FP32:
        return 0.0
    return coefficients[
        "convolution.copied_tf32" if arithmetic is Arithmetic.TF32 else "convolution.copied"
    ]


def double_share(device: Device) -> float:
    """Return the rate of float64 as a share of that of float32."""
    return _DOUBLE_SHARE[device.kind is Kind.DATACENTER]


def _own(device: Device, name: str, coefficients: Mapping[str, float]) -> float:
    """Return the coefficient of a device, else that of its architecture, else the common one."""
    shared = coefficients.get(f"{device.architecture}.{name}", coefficients[name])
    return coefficients.get(f"{device.name}.{name}", shared)
