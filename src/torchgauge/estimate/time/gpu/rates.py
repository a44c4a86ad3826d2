"""What a device sustains: its datasheet's peaks, less what power and clocks take.

A datasheet's rate is reached at the boost clock. A board that has little power for its rate lowers
its clock under load: a T4 has less than half the watts of its siblings for each multiprocessor and
clock (``devices.power``). A rate that the user measured needs none of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torchgauge.devices import Device
from torchgauge.devices.device import Arithmetic
from torchgauge.devices.evidence import Rate, factor_of
from torchgauge.devices.power import headroom, steps_per_second
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
_HALF: Final = (Arithmetic.FP16, Arithmetic.BF16)
_VOLTA: Final = (7, 0)


def arithmetic_of(work: Work, device: Device, *, tf32_matmul: bool) -> Arithmetic:
    """Return in which number format a device multiplies for a kernel.

    float32 convolutions take TF32 where the hardware has it, as ``cudnn.allow_tf32`` does by
    default; matrix products only if the scenario says so. PyTorch asks cuBLAS and cuDNN to
    accumulate in float32, which NVIDIA's cores for half precision before Volta cannot: there the
    ordinary ones multiply. (A GTX 1080 Ti takes 2.4 s for such a product of 20,000 × 20,000, 3.3 s
    in float32 and 75 s where it accumulates in float16: github.com/lakinsm/cuda-half-testing.)
    """
    wanted = _BY_DTYPE.get(work.dtype, Arithmetic.FP32)
    if work.dtype == "float32" and (work.is_convolution or tf32_matmul):
        wanted = Arithmetic.TF32
    is_old = (device.compute_capability or _VOLTA) < _VOLTA and wanted is Arithmetic.FP16
    return Arithmetic.FP32 if is_old or device.peak_rate(wanted) is None else wanted


def rates_of(
    device: Device,
    arithmetic: Arithmetic,
    coefficients: Mapping[str, float],
    *,
    share: float = 1.0,
    steps_share: float = 1.0,
    is_portable: bool = False,
) -> Rates:
    """Return what a device sustains in an arithmetic; ``share`` of it for slower formats.

    ``steps_share``: the same for the steps of other kernels; depthwise ones multiply in them too.
    ``is_portable``: by instructions that earlier architectures have too. On Hopper those reach a
    part of the tensor cores' rate (coefficient ``Hopper.portable``).
    """
    compute = _sustained(device, arithmetic, coefficients)
    if is_portable and arithmetic is not Arithmetic.FP32:
        compute *= coefficients.get(f"{device.architecture}.portable", 1.0)
    return Rates(
        compute=compute * share,
        vector=_steps(device, coefficients) * steps_share,
        bandwidth=_bandwidth(device, coefficients),
        peak_bandwidth=max(
            device.bandwidth_bytes_per_second, device.measured_bandwidth_bytes_per_second or 0.0
        ),
        cache_bytes=float(device.l2_bytes or 0),
        processors=float(device.sm_count or 1),
        copies_layout=_copied(arithmetic, coefficients),
        pads_channels=float(arithmetic in _HALF and device.has_tensor_cores),
        wants_alignment=float(arithmetic is not Arithmetic.FP32 and device.has_tensor_cores),
    )


def _copied(arithmetic: Arithmetic, coefficients: Mapping[str, float]) -> float:
    """Return the share of NCHW operands that tensor cores want with their channels last."""
    if arithmetic is Arithmetic.FP32:
        return 0.0
    return coefficients["convolution.copied" + "_tf32" * (arithmetic is Arithmetic.TF32)]


def _sustained(device: Device, arithmetic: Arithmetic, coefficients: Mapping[str, float]) -> float:
    """Return the rate of products that is kept up under load.

    What the user measured is what a large product reaches, so that its own time comes out again.
    """
    measured = device.measured_rate(arithmetic)
    if measured is not None:
        return measured / coefficients["matmul.compute"]
    return _expected(device, arithmetic, coefficients)


def _steps(device: Device, coefficients: Mapping[str, float]) -> float:
    """Return the sustained steps of other kernels; a rate that the user measured scales them."""
    measured, share = device.measured_rate(Arithmetic.FP32), 1.0
    if measured is not None:
        expected = _expected(device, Arithmetic.FP32, coefficients)
        share = measured / coefficients["matmul.compute"] / expected
    under_load: float = headroom(device, Arithmetic.FP32) ** coefficients["power"]
    return steps_per_second(device) * under_load * share


def _expected(device: Device, arithmetic: Arithmetic, coefficients: Mapping[str, float]) -> float:
    """Return the sustained rate of products where the user measured none."""
    peak = device.peak_rate(arithmetic) or device.fp32_flops_per_second or 0.0
    is_ordinary = arithmetic is Arithmetic.FP32 or not device.has_tensor_cores
    own = factor_of(device, Rate.VECTOR if is_ordinary else Rate.TENSOR, coefficients)
    under_load: float = headroom(device, arithmetic) ** coefficients["power"]
    return peak * own * under_load


def _bandwidth(device: Device, coefficients: Mapping[str, float]) -> float:
    measured = device.measured_bandwidth_bytes_per_second
    if measured is not None:
        return measured / coefficients["elementwise.memory"]
    return device.bandwidth_bytes_per_second * factor_of(device, Rate.BANDWIDTH, coefficients)
