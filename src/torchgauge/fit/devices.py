"""The same step on many devices: one trace per set of kernels, one estimate per device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torchgauge.analyze import virtual_device_of
from torchgauge.devices import Device, all_devices, find_device
from torchgauge.errors import ScenarioError, TorchGaugeError, UsageError
from torchgauge.estimate.memory.device import Weight, weigh
from torchgauge.facts.fit import DeviceFit
from torchgauge.facts.trace import Trace
from torchgauge.fit.variants import Variant, VariantTracer
from torchgauge.target import Target, target_of
from torchgauge.trace.kernels.base import VirtualDevice

ALL = "all"
"""The name that stands for every CUDA device of the catalogue."""
_OLDEST = (5, 0)
"""Compute capability that PyTorch's builds of 2.x begin with (the CUDA 12 builds; 13 begins later).
"""
_ATTENTION = "scaled_dot_product_attention"
"""The one kernel whose choice depends on the compute capability (``trace/kernels/cuda.py``)."""


def named_devices(names: list[str]) -> list[str]:
    """Return the devices of a request, ``all`` replaced by those with CUDA; none twice.

    ``all`` leaves out what PyTorch has not run on since its release 2.0.

    Raises:
        DeviceError: a name is not known.
        UsageError: no name.
    """
    if not names:
        raise UsageError("no device was named", hint="such as RTX 3060 12GB, or all")
    found: list[str] = []
    for name in names:
        if name == ALL:
            found += [d.name for d in all_devices() if (d.compute_capability or (0, 0)) >= _OLDEST]
        else:
            found.append(name if name in ("cpu", "cuda") else find_device(name).name)
    return list(dict.fromkeys(found))


@dataclass(slots=True)
class AttentionWatch:
    """Whether a run has asked for attention, whose kernel depends on the device."""

    asked: bool = False

    def watched(self, device: VirtualDevice) -> VirtualDevice:
        """Return the device with its attention watched."""
        kernels = dict(device.kernels)
        inner: Callable[..., Any] = kernels[_ATTENTION]

        def attention(*args: Any, **kwargs: Any) -> Any:
            self.asked = True
            return inner(*args, **kwargs)

        kernels[_ATTENTION] = attention
        return replace(device, kernels=kernels)


def device_fit(device: Device, weight: Weight, trace: Trace, target: Target) -> DeviceFit:
    """Return what a step takes of a device as part of the answer."""
    return DeviceFit(
        device=device.name,
        verdict=weight.verdict,
        usable_bytes=device.usable_memory_bytes,
        context_bytes=weight.gpu.context_bytes,
        allocated_bytes=weight.allocated_bytes,
        reserved_bytes=weight.reserved_bytes,
        warnings=target.warnings_of(trace),
        fits=weight.fits,
        device_interval=weight.device_interval,
        other_programs_bytes=trace.scenario.other_programs_bytes,
    )


@dataclass(slots=True, kw_only=True)
class ManyDevices:
    """Estimate one variant on further devices, beside the one that it was traced for."""

    tracer: VariantTracer
    variant: Variant
    trace: Trace
    target: Target
    depends_on_device: bool
    """Whether another compute capability needs a trace of its own."""
    left_out: list[str] = field(default_factory=list)
    _traces: dict[tuple[int, int], Trace] = field(default_factory=dict)

    def run(self, names: list[str]) -> list[DeviceFit]:
        """Return one row per device; those that cannot be estimated go to ``left_out``."""
        rows = []
        for name in names:
            with self._note_errors(name):
                rows.append(self._row(name))
        return rows

    def _row(self, name: str) -> DeviceFit:
        scenario = replace(self.variant.scenario, device=name)
        if find_device(name).compute_capability is None:
            raise ScenarioError("fit knows only CUDA devices")
        target = target_of(scenario)
        assert target.gpu is not None and target.device is not None
        trace = self._trace_for(target.device, target, replace(self.variant, scenario=scenario))
        weight = weigh(trace, target.gpu, self.tracer.workload.steps)
        return device_fit(target.device, weight, trace, target)

    def _trace_for(self, device: Device, target: Target, variant: Variant) -> Trace:
        capability = device.compute_capability
        assert capability is not None and self.target.device is not None
        if not self.depends_on_device or capability == self.target.device.compute_capability:
            return self.trace
        if capability not in self._traces:
            outcome = self.tracer.outcome(variant, virtual_device_of(target))
            if outcome.error is not None:
                raise outcome.error
            self._traces[capability] = outcome.trace
        return self._traces[capability]

    @contextmanager
    def _note_errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (TorchGaugeError, ValueError) as error:
            self.left_out.append(f"{name} is left out: {str(error).splitlines()[0]}")
