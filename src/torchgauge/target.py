"""What a scenario runs on: its device's name → what the estimators need of that device."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import machine, processor

from torchgauge.devices import Device, find_device
from torchgauge.devices.context import cuda_context_bytes
from torchgauge.devices.cpu_file import VARIABLE, calibration_file
from torchgauge.devices.family import CPU_FAMILY, kernel_family
from torchgauge.errors import DeviceError, ScenarioError
from torchgauge.estimate.memory.allocator import AllocatorSettings
from torchgauge.estimate.memory.device import Gpu
from torchgauge.estimate.memory.workspaces import Platform
from torchgauge.estimate.time.cpu.calibration import Calibration, CpuName, from_json
from torchgauge.facts.precision import dtypes_of, short_dtype
from torchgauge.facts.scenario import Precision, Scenario
from torchgauge.facts.trace import Trace
from torchgauge.trace.local_gpus import local_gpus
from torchgauge.units import format_bytes

_UNKNOWN_RELEASE = "2.6"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The device of a scenario."""

    platform: Platform
    family: str
    """Whose kernels it runs: see ``devices.family``."""
    device: Device | None = None
    gpu: Gpu | None = None
    calibration: Calibration | None = None
    """Of the CPU at hand, if it has one."""
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def warnings_of(self, trace: Trace) -> tuple[str, ...]:
        """Return the warnings, with what the device lacks for a model as it is built."""
        if self.device is None or trace.scenario.precision is not Precision.AS_BUILT:
            return self.warnings
        found = [
            _lacking(self.device, name)
            for name in map(short_dtype, dtypes_of(trace))
            if name in (Precision.BF16, Precision.FP16)
        ]
        return (*self.warnings, *(text for texts in found for text in texts))


def calibrated(target: Target, trace: Trace) -> Target:
    """Return a CPU with its calibration for a trace, a GPU as it is.

    The calibration of another CPU is not used, nor one in the usual place that cannot be read, and
    an assumption tells of it.

    Raises:
        DeviceError: the calibration that a variable names cannot be read.
    """
    if target.device is not None:
        return target
    try:
        kept = calibration_file()
        found = from_json(*kept) if kept is not None else None
    except DeviceError as error:
        if os.environ.get(VARIABLE):
            raise
        why = f"no times: {error} ({error.hint})"
        return replace(target, assumptions=(*target.assumptions, why))
    if found is None:
        return target
    here = cpu_name(trace.threads, trace.torch_version)
    if found.cpu != here:
        stale = (
            f"no times: calibrated for {found.cpu}, this is {here} (torchgauge measure --calibrate)"
        )
        return replace(target, assumptions=(*target.assumptions, stale))
    return replace(target, calibration=found)


def platform_of(target: Target, trace: Trace) -> Platform:
    """Return what the kernels of a trace run on, as far as their scratch memory depends on it."""
    if target.platform.type == "cpu" and trace.has_early_onednn:
        return replace(target.platform, has_early_onednn=True)
    return target.platform


def cpu_name(threads: int, torch_version: str) -> CpuName:
    """Return what the times of this machine's CPU kernels depend on."""
    return CpuName(processor=_processor(), threads=threads, torch_version=torch_version)


@cache
def _processor() -> str:
    """Return the processor's name as Linux tells it, the architecture elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else processor() or machine()


CPU = Target(platform=Platform(type="cpu"), family=CPU_FAMILY)


def target_of(scenario: Scenario, torch_version: str | None = None) -> Target:
    """Return what a scenario runs on, under a version of PyTorch, the installed one by default.

    Raises:
        DeviceError: the name is not known, or stands for several devices.
        ScenarioError: a GPU that PyTorch's CUDA build does not run on, no GPU at hand, or an
            option of CUDA for the CPU.
        AllocatorSettingsError: the allocator's settings make no sense.
    """
    installed = _release(torch_version or _installed_version())
    if scenario.device == "cpu":
        check_cpu_options(scenario)
        return replace(CPU, platform=replace(CPU.platform, torch_release=installed))
    device = _local_device() if scenario.device == "cuda" else find_device(scenario.device)
    capability = device.compute_capability
    if capability is None:
        raise ScenarioError(
            f"{device.name} is not a CUDA device; only CUDA's kernels and allocator are known",
            hint="torchgauge devices lists the compute capability of each",
        )
    release = scenario.torch_release or installed
    platform = Platform(
        type="cuda",
        compute_capability=capability,
        torch_release=release,
        cudnn_benchmark=scenario.cudnn_benchmark,
        channels_last=scenario.channels_last,
    )
    context = cuda_context_bytes(
        compute_capability=capability, sm_count=device.sm_count or 1, device=device.name
    )
    return Target(
        platform=platform,
        family=kernel_family(capability),
        device=device,
        gpu=Gpu(
            platform=platform,
            settings=AllocatorSettings.parse(scenario.allocator, torch_release=release),
            usable_bytes=device.usable_memory_bytes,
            context_bytes=context.nbytes,
            context_interval=(context.low_bytes, context.high_bytes),
            other_programs_bytes=scenario.other_programs_bytes,
        ),
        assumptions=_assumptions(device, release, context.measured, scenario),
        warnings=_lacking(device, Precision(scenario.precision)),
    )


_CUDA_ONLY = (
    ("allocator", ""),
    ("torch_release", None),
    ("cudnn_benchmark", False),
    ("compiled", False),
    ("other_programs_bytes", 0),
)
"""Fields of a scenario that say nothing on the CPU, with the value that says nothing."""


def check_cpu_options(scenario: Scenario) -> None:
    """Refuse what only CUDA has.

    Raises:
        ScenarioError: the scenario asks for such a thing on the CPU.
    """
    for name, neutral in _CUDA_ONLY:
        value = getattr(scenario, name)
        if value != neutral:
            raise ScenarioError(
                f"{name}={value!r} has no meaning on the CPU",
                hint="name a GPU: device='RTX 3060 12GB' (--device), or leave it out",
            )


_BENCHMARK = (
    "cudnn.benchmark: the first step tries plans of convolutions, whose workspaces cuDNN alone "
    "knows; meanwhile the device may show more than predicted, up to all of its memory"
)


def _assumptions(
    device: Device, release: str, is_measured: bool, scenario: Scenario
) -> tuple[str, ...]:
    known = "" if device.usable_is_measured else ", usable memory as of similar GPUs"
    context = "as published for it" if is_measured else "estimated from other GPUs"
    others = "nothing else uses memory of the GPU: no desktop, no other program"
    if scenario.other_programs_bytes:
        size = format_bytes(scenario.other_programs_bytes)
        others = f"a desktop and other programs use {size} of the GPU"
    return (
        f"kernels and memory of {device.name} under PyTorch {release}{known}; CUDA context "
        f"{context}",
        others,
        *((_BENCHMARK,) if scenario.cudnn_benchmark else ()),
    )


def _lacking(device: Device, precision: str) -> tuple[str, ...]:
    """Say that the device lacks a precision, if it does, and what takes its place.

    What a model as built lacks is known only once it ran.
    """
    if precision in (Precision.AS_BUILT, Precision.FP32):
        return ()
    support = device.supports(precision)
    if support:
        return ()
    fallback = f"; use {support.fallback}" if support.fallback else ""
    return (f"{device.name}: {support.reason}{fallback}",)


def _local_device() -> Device:
    gpus = local_gpus()
    if not gpus:
        raise ScenarioError(
            "there is no GPU here whose kernels could be simulated",
            hint='name one that torchgauge devices lists: --device "RTX 3060 12GB" '
            "(device='RTX 3060 12GB')",
        )
    return find_device(gpus[0].name, memory_bytes=gpus[0].total_bytes)


def _release(torch_version: str) -> str:
    found = re.match(r"\d+\.\d+", torch_version)
    return found.group() if found else _UNKNOWN_RELEASE


@cache
def _installed_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return _UNKNOWN_RELEASE
