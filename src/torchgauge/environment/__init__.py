"""What is wrong with the environment that torch runs in, and what repairs it.

``facts`` says what was seen: each source stands alone when another is missing, and torch is asked
only in processes of its own. ``rules`` judge it, ``page`` says it. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Final

from torchgauge.environment.facts import Facts
from torchgauge.environment.findings import Diagnosis, Finding, Severity
from torchgauge.environment.host import read_host
from torchgauge.environment.interpreter import ask_libcuda, ask_packages, ask_torch, run_checks
from torchgauge.environment.rules import find
from torchgauge.environment.smi import ask_nvidia_smi
from torchgauge.environment.surroundings import Surroundings

__all__ = ["Diagnosis", "Facts", "Finding", "Severity", "Surroundings", "diagnose"]

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


def diagnose(
    surroundings: Surroundings, *, with_checks: bool = True, require_gpu: bool = False
) -> Diagnosis:
    """Return what is wrong with an environment.

    Args:
        surroundings: which one; ``Surroundings.here()`` for this machine and interpreter.
        with_checks: compute on each device, too: some seconds each.
        require_gpu: that no GPU can be used is an error.
    """
    environ = surroundings.environ
    python = ask_packages(surroundings)
    torch = ask_torch(surroundings, python)
    facts = Facts(
        host=read_host(surroundings),
        smi=ask_nvidia_smi(surroundings),
        libcuda=ask_libcuda(surroundings),
        python=python,
        torch=torch,
        checks=run_checks(surroundings, torch) if with_checks else None,
        variables={name: environ[name] for name in VARIABLES if name in environ},
    )
    return Diagnosis(facts=facts, findings=find(facts, require_gpu=require_gpu))
