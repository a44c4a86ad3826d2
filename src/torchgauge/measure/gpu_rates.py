"""What the GPU of this machine reaches: a large matrix product in each format, and a copy.

The predicted time of a step then needs no datasheet for these rates: see ``devices.evidence``.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Final, Protocol

import torch

from torchgauge.devices import Arithmetic, Device
from torchgauge.devices.catalog import find_device
from torchgauge.devices.decode import MEASURED
from torchgauge.errors import DeviceError

_DTYPES: Final = {
    Arithmetic.FP32: torch.float32,
    Arithmetic.FP16: torch.float16,
    Arithmetic.BF16: torch.bfloat16,
}
_WARM_UP_SECONDS: Final = 1.0
"""By then the clock is what the power limit allows."""
_SECONDS: Final = 0.2
_ROUNDS: Final = 5
_SIDE: Final = 8192
"""Of a product that fills any GPU; half of it where the operands would take much of the memory."""
_COPY_BYTES: Final = 1 << 30
"""Many times any cache."""
_SHARE: Final = 8
"""At most one part in that many of the memory is used."""


class Machine(Protocol):
    """A GPU, or what stands for one in a test."""

    name: str
    total_bytes: int

    def product(self, dtype: torch.dtype, side: int) -> Callable[[], object]:
        """Return what multiplies two square matrices, made once."""

    def copy(self, nbytes: int) -> Callable[[], object]:
        """Return what copies that many bytes."""

    def seconds(self, run: Callable[[], object], times: int) -> float:
        """Return how long a number of runs take on the GPU."""


class CudaMachine:
    """The first CUDA GPU that torch sees.

    Raises:
        DeviceError: torch sees none.
    """

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise DeviceError(
                "there is no CUDA GPU here to measure",
                hint="run this where the GPU is, or write measured_fp16_tflops and "
                "measured_bandwidth_gb_s into a file of your own: docs/devices.md",
            )
        found = torch.cuda.get_device_properties(0)
        self.name: str = found.name
        self.total_bytes: int = found.total_memory

    def product(self, dtype: torch.dtype, side: int) -> Callable[[], object]:
        """Return a product of matrices of noise: zeros would take less power."""
        first, second = (torch.randn(side, side, device="cuda").to(dtype) for _ in range(2))
        result = torch.empty_like(first)
        return lambda: torch.matmul(first, second, out=result)

    def copy(self, nbytes: int) -> Callable[[], object]:
        """Return a copy within the GPU's memory."""
        source = torch.ones(nbytes, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    def seconds(self, run: Callable[[], object], times: int) -> float:
        """Return the time between two events around the runs."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(times):
            run()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3


def measured_rates(
    machine: Machine, on_progress: Callable[[str], None] = lambda _: None
) -> tuple[Device, dict[str, float]]:
    """Return the row of a machine's GPU, and fields of a file of devices with what it reaches.

    Products are timed in float32 without TF32, and in what else the hardware has.

    Raises:
        DeviceError: the list has no such GPU.
    """
    device = find_device(machine.name, memory_bytes=machine.total_bytes)
    room = machine.total_bytes / _SHARE
    side = _SIDE
    while 12 * side**2 > room:
        side //= 2
    fields: dict[str, float] = {}
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        for arithmetic, dtype in _DTYPES.items():
            if arithmetic not in device.lacks:
                on_progress(f"timing products in {arithmetic}")
                seconds = _seconds(machine, machine.product(dtype, side))
                fields[f"{MEASURED}{arithmetic}_tflops"] = 2 * side**3 / seconds / 1e12
    finally:
        torch.set_float32_matmul_precision(precision)
    on_progress("timing a copy")
    nbytes = min(_COPY_BYTES, int(room / 2))
    seconds = _seconds(machine, machine.copy(nbytes))
    fields[f"{MEASURED}bandwidth_gb_s"] = 2 * nbytes / seconds / 1e9
    return device, fields


def _seconds(machine: Machine, run: Callable[[], object]) -> float:
    """Return the time of one run under load: the median over a second after a second."""
    times, spent = 1, 0.0
    while spent < _WARM_UP_SECONDS:
        took = machine.seconds(run, times)
        spent += took
        times = max(1, min(2 * times, round(_SECONDS * times / max(took, 1e-9))))
    return median(machine.seconds(run, times) / times for _ in range(_ROUNDS))
