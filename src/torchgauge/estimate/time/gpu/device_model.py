"""One device with its coefficients: what any kernel gets from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from torchgauge.devices import Device
from torchgauge.devices.tables import coefficients
from torchgauge.estimate.time.gpu.cost import Rates
from torchgauge.estimate.time.gpu.rates import arithmetic_of, double_share, rates_of
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.facts.scenario import Precision, Scenario

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceModel:
    """A device, the switches of the run, and the coefficients."""

    device: Device
    coefficients: Mapping[str, float] = field(default_factory=coefficients)
    tf32_matmul: bool = False
    """``torch.backends.cuda.matmul.allow_tf32``."""
    _rates: dict[tuple[str, bool, bool], Rates] = field(
        default_factory=dict, repr=False, compare=False
    )

    def rates(self, work: Work) -> Rates:
        """Return what the device sustains for a kernel."""
        key = work.dtype, work.is_convolution, work.is_portable
        found = self._rates.get(key)
        if found is None:
            arithmetic = arithmetic_of(work, self.device, tf32_matmul=self.tf32_matmul)
            share = double_share(self.device) if work.dtype in ("float64", "complex128") else 1.0
            found = rates_of(
                self.device,
                arithmetic,
                self.coefficients,
                share=share,
                is_portable=work.is_portable,
            )
            self._rates[key] = found
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
    """Return the device as a scenario runs it."""
    return DeviceModel(device=device, tf32_matmul=scenario.precision is Precision.TF32)


COMPILED: Final = "compiled"


def of_compiled(c: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return the coefficients of a compiled step: its own in place of those of eager kernels."""
    prefix = f"{COMPILED}."
    own = {name.removeprefix(prefix): value for name, value in c.items() if name.startswith(prefix)}
    return {**c, **own}
