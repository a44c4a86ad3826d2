"""The GPUs of the measurements, and what a case's software makes of one."""

from __future__ import annotations

from benchmarks.memory_sets.cases import MemoryCase
from torchgauge.devices import find_device
from torchgauge.estimate.memory.allocator import AllocatorSettings
from torchgauge.estimate.memory.device import Gpu
from torchgauge.estimate.memory.workspaces import Platform

INSTALLED = "2.13"


def platform_of(case: MemoryCase) -> Platform:
    """Return whose kernels a case runs."""
    capability = find_device(case.gpu).compute_capability
    assert capability is not None
    return Platform(
        type="cuda",
        compute_capability=capability,
        torch_release=case.scenario.torch_release or INSTALLED,
        cudnn_benchmark=case.cudnn_benchmark,
        has_early_cudnn=case.has_early_cudnn,
        channels_last=case.scenario.channels_last,
    )


def gpu_of(case: MemoryCase) -> Gpu:
    """Return the GPU of a case, with the context of its software where that is known."""
    target = platform_of(case)
    return Gpu(
        platform=target,
        settings=AllocatorSettings(torch_release=target.torch_release),
        usable_bytes=case.gpu_bytes,
        context_bytes=case.context_bytes or 0,
    )
