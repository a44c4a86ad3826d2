"""The GPUs of the measurements, and what a case's software makes of one."""

from __future__ import annotations

from benchmarks.memory_sets.cases import MemoryCase
from torchgauge.estimate.allocator import AllocatorSettings
from torchgauge.estimate.gpu import Gpu
from torchgauge.estimate.workspaces import Target

INSTALLED = "2.13"
CAPABILITIES: dict[str, tuple[int, int]] = {
    "Tesla T4": (7, 5),
    "GeForce RTX 3090": (8, 6),
    "RTX 3060 12GB": (8, 6),
    "RTX 4060": (8, 9),
    "A100 SXM4 40GB": (8, 0),
    "A100 SXM4 80GB": (8, 0),
    "L40S": (8, 9),
}
"""Compute capabilities (developer.nvidia.com/cuda-gpus)."""


def target_of(case: MemoryCase) -> Target:
    """Return whose kernels a case runs."""
    return Target(
        type="cuda",
        compute_capability=CAPABILITIES[case.gpu],
        torch_release=case.scenario.torch_release or INSTALLED,
        cudnn_benchmark=case.cudnn_benchmark,
        channels_last=case.scenario.channels_last,
    )


def gpu_of(case: MemoryCase) -> Gpu:
    """Return the GPU of a case, with the context of its software where that is known."""
    target = target_of(case)
    return Gpu(
        target=target,
        settings=AllocatorSettings(torch_release=target.torch_release),
        usable_bytes=case.gpu_bytes,
        context_bytes=case.context_bytes or 0,
    )
