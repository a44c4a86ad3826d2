"""One device with its coefficients: what any kernel gets from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from torchgauge.devices import Device
from torchgauge.devices.device import Arithmetic
from torchgauge.devices.evidence import Rate, evidence_of
from torchgauge.devices.power import double_share
from torchgauge.devices.tables import coefficients
from torchgauge.estimate.time.gpu.cost import Rates
from torchgauge.estimate.time.gpu.rates import arithmetic_of, rates_of
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.facts.scenario import Precision, Scenario

Value = TypeVar("Value")
COMPILED: Final = "compiled"
ERROR_GROUPS: Final = ("products", "convolutions", "depthwise", "attention", "other")
"""Kinds of kernels that are predicted equally well."""
_GROUP_OF: Final = {
    Kind.MATMUL: "products",
    Kind.RECURRENT: "products",
    Kind.CONVOLUTION: "convolutions",
    Kind.DEPTHWISE: "depthwise",
    Kind.ATTENTION: "attention",
}
_MEASURED: Final = (Arithmetic.FP16, Arithmetic.BF16, Arithmetic.TF32)
_DOUBLES: Final = ("float64", "complex128")
_FLASH_2: Final = (2, 2)
_SPLIT_ROWS: Final = (2, 8)


def error_group(kind: Kind) -> str:
    """Return which of ``ERROR_GROUPS`` a kernel is of."""
    return _GROUP_OF.get(kind, "other")


def combined(kernel: Value, rate: Value) -> Value:
    """Return the error of a product of two that are off independently; arrays will do.

    >>> combined(0.03, 0.04)
    0.05
    """
    found: Value = (kernel**2 + rate**2) ** 0.5  # type: ignore[operator]
    return found


def rate_of(kind: Kind, arithmetic: Arithmetic) -> Rate:
    """Return the rate of the device that a kernel's time goes with."""
    if kind is Kind.DEPTHWISE or kind not in _GROUP_OF:
        return Rate.BANDWIDTH
    return Rate.VECTOR if arithmetic is Arithmetic.FP32 else Rate.TENSOR


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceModel:
    """A device, the switches of the run, and the coefficients."""

    device: Device
    coefficients: Mapping[str, float] = field(default_factory=coefficients)
    tf32_matmul: bool = False
    """``torch.backends.cuda.matmul.allow_tf32``."""
    error_factor: float = 1.0
    """Of kernels' errors where they are known less well than in an eager inference."""
    _rates: dict[tuple[str, bool, bool], Rates] = field(
        default_factory=dict, repr=False, compare=False
    )

    def rates(self, work: Work) -> Rates:
        """Return what the device sustains for a kernel."""
        key = work.dtype, work.is_convolution, work.is_portable
        found = self._rates.get(key)
        if found is None:
            arithmetic = arithmetic_of(work, self.device, tf32_matmul=self.tf32_matmul)
            share = double_share(self.device) if work.dtype in _DOUBLES else 1.0
            found = rates_of(
                self.device,
                arithmetic,
                self.coefficients,
                share=share,
                steps_share=share if work.is_convolution else 1.0,
                is_portable=work.is_portable,
            )
            self._rates[key] = found
        return found

    def error_of(self, work: Work) -> float:
        """Return the relative error to expect of a kernel's time.

        That of its kind's formula, and that of the rate that it goes with by the rate's evidence:
        the two do not depend on each other. More where no set of measurements holds such kernels:
        convolutions in float32, products of 8 bits or float64.
        """
        arithmetic = arithmetic_of(work, self.device, tf32_matmul=self.tf32_matmul)
        group, c = error_group(work.kind), self.coefficients
        rate = rate_of(work.kind, arithmetic)
        found = combined(
            c[f"error.{group}"] * self.error_factor,
            c.get(f"error.{evidence_of(self.device, rate, c)}.{rate}", 0.0),
        )
        is_plain = arithmetic is Arithmetic.FP32 and not work.is_convolution
        is_plain = is_plain and work.dtype not in _DOUBLES
        if group != "other" and not (is_plain or arithmetic in _MEASURED):
            return max(found, c["error.other_kernels"])
        return found

    def roof_seconds(self, work: Work) -> float:
        """Return the least time that the datasheet's rates allow for a kernel."""
        arithmetic = arithmetic_of(work, self.device, tf32_matmul=self.tf32_matmul)
        peak = self.device.peak_rate(arithmetic) or self.device.fp32_flops_per_second
        compute = work.flops * work.share / peak if peak else 0.0
        return max(compute, work.nbytes / self.device.bandwidth_bytes_per_second)

    @property
    def is_predictable(self) -> bool:
        """Return whether the datasheet's rates that every prediction needs are known."""
        return self.device.fp32_flops_per_second is not None


def model_of(device: Device, scenario: Scenario) -> DeviceModel:
    """Return the device as a scenario runs it.

    Fused attention was of the first generation before PyTorch 2.2 (its release notes). Gradients of
    layer norms' weights have blocks by rows too since 2.8.
    """
    c = coefficients()
    numbers = re.match(r"(\d+)\.(\d+)", scenario.torch_release or "")
    release = (int(numbers[1]), int(numbers[2])) if numbers is not None else _SPLIT_ROWS
    if release < _FLASH_2:
        c = {**c, "attention.compute": c["attention.compute"] / c["attention.first"]}
    if release >= _SPLIT_ROWS:
        c = {**c, "column_sums.block": c["column_sums.block"] * c["column_sums.since_2_8"]}
    return DeviceModel(
        device=device, coefficients=c, tf32_matmul=scenario.precision is Precision.TF32
    )


def of_compiled(c: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return the coefficients of a compiled step: its own in place of those of eager kernels."""
    prefix = f"{COMPILED}."
    own = {name.removeprefix(prefix): value for name, value in c.items() if name.startswith(prefix)}
    return {**c, **own}
