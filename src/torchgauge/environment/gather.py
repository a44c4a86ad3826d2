"""Gather the facts, one source after the other; each stands alone when another is missing."""

from __future__ import annotations

from typing import Final

from torchgauge.environment.facts import Facts
from torchgauge.environment.host import read_host
from torchgauge.environment.interpreter import ask_libcuda, ask_packages, ask_torch, run_checks
from torchgauge.environment.smi import ask_nvidia_smi
from torchgauge.environment.surroundings import Surroundings

VARIABLES: Final = (
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME", "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING", "CONDA_PREFIX", "HF_HOME", "HF_HUB_OFFLINE", "HIP_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "NCCL_DEBUG", "NCCL_P2P_DISABLE", "NCCL_SHM_DISABLE",
    "NCCL_SOCKET_IFNAME", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS", "PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONPATH", "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "TORCH_CUDA_ARCH_LIST", "TORCH_HOME", "VIRTUAL_ENV",
)  # fmt: skip
"""The variables that a report shows: those that change what torch does, and none with a secret."""


def gather(surroundings: Surroundings, *, with_checks: bool = True) -> Facts:
    """Return what is to be seen; ``with_checks``: compute on every device too."""
    python = ask_packages(surroundings)
    torch = ask_torch(surroundings, python)
    return Facts(
        host=read_host(surroundings),
        smi=ask_nvidia_smi(surroundings),
        libcuda=ask_libcuda(surroundings),
        python=python,
        torch=torch,
        checks=run_checks(surroundings, torch) if with_checks else None,
        variables={
            name: surroundings.environ[name] for name in VARIABLES if name in surroundings.environ
        },
    )
