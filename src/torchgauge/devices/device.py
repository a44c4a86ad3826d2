"""One device: what its maker states, what its driver reports, and which arithmetic it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from torchgauge.shown import Shown
from torchgauge.units import format_bytes


class Kind(StrEnum):
    """Where a device is used; it decides how much of its memory the driver keeps."""

    DATACENTER = "datacenter"
    """A server board: HBM, or GDDR with error correction switched on."""
    WORKSTATION = "workstation"
    """A professional board (RTX A6000); error correction is there and off by default."""
    CONSUMER = "consumer"
    """A desktop board (GeForce, Radeon RX)."""
    LAPTOP = "laptop"
    """A mobile part; its clocks depend on the power limit of the laptop."""
    EDGE = "edge"
    """An embedded board whose GPU shares memory with the processor (Jetson)."""
    OTHER = "other"
    """A device of the user's own of which nothing else was said."""


class Arithmetic(StrEnum):
    """The number formats of a matrix product for which a device has a peak rate."""

    FP32 = "fp32"
    """float32 on the ordinary cores, no TF32."""
    TF32 = "tf32"
    """float32 storage, 10-bit mantissa in the tensor cores."""
    FP16 = "fp16"
    """float16 inputs with float32 accumulation, as PyTorch multiplies them."""
    BF16 = "bf16"
    """bfloat16 inputs with float32 accumulation."""
    FP8 = "fp8"
    """8-bit floats (e4m3, e5m2) with float32 accumulation."""
    INT8 = "int8"
    """8-bit integers with int32 accumulation."""


@dataclass(frozen=True, slots=True)
class Support:
    """Whether a device has an arithmetic, why not, and what to take instead. Truthy if it has."""

    native: bool
    reason: str
    fallback: str | None = None
    """The precision to name instead; ``None`` where none is needed."""

    def __bool__(self) -> bool:
        return self.native


_FALLBACKS: Mapping[Arithmetic, tuple[Arithmetic, ...]] = {
    Arithmetic.TF32: (Arithmetic.FP32,),
    Arithmetic.BF16: (Arithmetic.FP16, Arithmetic.FP32),
    Arithmetic.FP16: (Arithmetic.FP32,),
    Arithmetic.FP8: (Arithmetic.BF16, Arithmetic.FP16, Arithmetic.FP32),
    Arithmetic.INT8: (Arithmetic.FP16, Arithmetic.FP32),
}

_INSTEAD: Mapping[Arithmetic, str] = {
    Arithmetic.TF32: "torch computes in fp32 on it",
    Arithmetic.BF16: "torch emulates it, slowly",
    Arithmetic.FP16: "torch stores it and computes in fp32",
    Arithmetic.FP8: "torch has no fp8 matrix product on it",
    Arithmetic.INT8: "no integer matrix product in hardware",
}

MINIMUM_CAPABILITY: Mapping[Arithmetic, tuple[int, int]] = {
    Arithmetic.FP32: (0, 0),
    Arithmetic.TF32: (8, 0),
    Arithmetic.FP16: (5, 3),
    Arithmetic.BF16: (8, 0),
    Arithmetic.FP8: (8, 9),
    Arithmetic.INT8: (6, 1),
}
"""First NVIDIA compute capability with native instructions for an arithmetic.

Source: NVIDIA, CUDA C++ Programming Guide, "Compute Capabilities" (throughput of native
arithmetic instructions; tensor-core types by version) and PTX ISA, ``mma`` and ``dp4a``.
"""
_VOLTA = (7, 0)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Device(Shown):
    """A GPU or board as one torch device sees it (half of an MI250X or a K80).

    ``None`` in a number means *not known*; what the hardware does not have is in ``lacks``.
    """

    name: str
    """The plain name, as people type it."""
    aliases: tuple[str, ...] = ()
    """Other names, the driver's among them."""
    vendor: str
    kind: Kind = Kind.OTHER
    architecture: str = ""
    memory_bytes: int
    """The memory that the maker states; its GB are taken as GiB, which is what is built in."""
    usable_memory_bytes: int
    """What the driver reports as total (``total_memory`` in torch)."""
    memory_type: str = ""
    bandwidth_bytes_per_second: float
    """Peak memory bandwidth, decimal units as makers state it."""
    compute_capability: tuple[int, int] | None = None
    """``None`` for what is not NVIDIA's."""
    sm_count: int | None = None
    """Streaming multiprocessors; compute units on AMD."""
    boost_clock_hz: float | None = None
    l2_bytes: int | None = None
    fp32_flops_per_second: float | None = None
    """Peak dense rate; 1 multiply-add = 2 operations, here and below."""
    tf32_flops_per_second: float | None = None
    fp16_flops_per_second: float | None = None
    bf16_flops_per_second: float | None = None
    fp8_flops_per_second: float | None = None
    int8_ops_per_second: float | None = None
    lacks: tuple[Arithmetic, ...] = ()
    """Arithmetic that the hardware has no instructions for."""
    derived: tuple[str, ...] = ()
    """Names of the fields that a documented rule gives and no source states."""
    tdp_watts: float | None = None
    unified_memory: bool = False
    """The processor uses the same memory: what it holds is not free for the model."""
    released: date | None = None
    sources: tuple[str, ...] = ()
    """Where the numbers come from; a part that begins with a field's name is about that field."""
    read_on: date | None = None
    """When the sources were read."""
    measured_fp32_flops_per_second: float | None = None
    """What a large float32 product reached on the user's own board, TF32 off; here and below."""
    measured_fp16_flops_per_second: float | None = None
    measured_bf16_flops_per_second: float | None = None
    measured_bandwidth_bytes_per_second: float | None = None
    """What a copy reached: bytes read and bytes written."""

    def __str__(self) -> str:
        usable = format_bytes(self.usable_memory_bytes)
        bandwidth = f"{self.bandwidth_bytes_per_second / 1e9:,.0f} GB/s"
        return f"{self.name}, {usable} usable, {bandwidth}"

    @property
    def usable_is_measured(self) -> bool:
        """Whether a driver was seen to report ``usable_memory_bytes``."""
        return "usable_memory_bytes" not in self.derived

    @property
    def has_tensor_cores(self) -> bool:
        """Return whether products in half precision have cores of their own.

        NVIDIA's have them from Volta on, but for the GTX 16, whose float16 runs at twice the rate
        of float32 (NVIDIA, GeForce GTX 1660 Ti).
        """
        if self.compute_capability is None:
            return True
        fp16, fp32 = self.fp16_flops_per_second or 0.0, self.fp32_flops_per_second or 0.0
        is_gtx_16 = self.compute_capability == (7, 5) and fp16 < 3 * fp32
        return self.compute_capability >= _VOLTA and not is_gtx_16

    def peak_rate(self, arithmetic: str) -> float | None:
        """Return the peak dense operations per second, ``None`` if lacking or not known.

        Raises:
            ValueError: no such arithmetic.
        """
        rate: float | None = getattr(self, rate_field(arithmetic))
        return rate

    def measured_rate(self, arithmetic: Arithmetic) -> float | None:
        """Return what a large product reaches by the user's measurement, ``None`` without one.

        The formats of the tensor cores stand to each other as the datasheet says.
        """
        fp16, bf16 = self.measured_fp16_flops_per_second, self.measured_bf16_flops_per_second
        if arithmetic is Arithmetic.FP32:
            return self.measured_fp32_flops_per_second
        if arithmetic is Arithmetic.BF16 and bf16 is not None:
            return bf16
        known, of = (fp16, Arithmetic.FP16) if fp16 is not None else (bf16, Arithmetic.BF16)
        peak, reference = self.peak_rate(arithmetic), self.peak_rate(of)
        return known * peak / reference if known and peak and reference else None

    def supports(self, precision: str) -> Support:
        """Return whether the hardware computes in a precision, and what to take if not.

        ``bf16-autocast`` and the like are asked as ``bf16``.

        Raises:
            ValueError: no such arithmetic.
        """
        wanted = _arithmetic(precision)
        if wanted not in self.lacks:
            return Support(True, f"{self.name} computes in {wanted}")
        fallback = next(other for other in _FALLBACKS[wanted] if other not in self.lacks)
        reason = f"{self.name} has no {wanted} arithmetic{self._why(wanted)}; {_INSTEAD[wanted]}"
        return Support(False, reason, fallback.value)

    def _why(self, wanted: Arithmetic) -> str:
        if self.compute_capability is None:
            return ""
        needed, has = MINIMUM_CAPABILITY[wanted], self.compute_capability
        if has >= needed:
            return ""
        return f" (compute capability {needed[0]}.{needed[1]} has it, this is {has[0]}.{has[1]})"


def rate_field(arithmetic: str) -> str:
    """Return the name of the field with the peak rate of an arithmetic.

    >>> rate_field("int8"), rate_field("bf16")
    ('int8_ops_per_second', 'bf16_flops_per_second')
    """
    wanted = _arithmetic(arithmetic)
    return f"{wanted}_{'ops' if wanted is Arithmetic.INT8 else 'flops'}_per_second"


def _arithmetic(name: str) -> Arithmetic:
    return Arithmetic(str(name).removesuffix("-autocast"))
