"""The GPUs of this machine: their names, and how much of their memory is free.

``nvidia-smi`` is asked first: it starts no CUDA context, which would take some hundred MiB of
the memory that is being measured, and needs no torch. Where it is missing (AMD, Jetson, Apple)
torch is asked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from torchgauge.devices.catalog import LocalGpu

_QUERY = ["--query-gpu=index,uuid,name,memory.total,memory.free", "--format=csv,noheader,nounits"]
_NODES = ("/dev/kfd", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/nvmap", "/dev/nvidiactl", "/dev/dxg")
"""What a GPU's driver makes on Linux: AMD; Jetson, old and new; NVIDIA; Windows' subsystem."""
_SECONDS = 10
"""A driver in trouble lets ``nvidia-smi`` hang."""


def local_gpus() -> tuple[LocalGpu, ...]:
    """Return the GPUs that a program started here would see; empty where there is none.

    ``CUDA_VISIBLE_DEVICES`` is honoured; its numbers are read in PCI order.
    """
    found = _from_nvidia_smi()
    if found is None:
        return _from_torch() if _may_have_gpu() else ()
    return found


def _may_have_gpu() -> bool:
    """Return whether the import of torch, some seconds, may be worth it."""
    return sys.platform != "linux" or any(Path(node).exists() for node in _NODES)


def _from_nvidia_smi() -> tuple[LocalGpu, ...] | None:
    """Return what ``nvidia-smi`` says, ``None`` where it is missing or says nothing useful."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *_QUERY], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    if done.returncode != 0:
        return None
    found: list[LocalGpu] = []
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 5 or not cells[0].isdigit():
            return None
        index, uuid, name, total, free = cells
        if not total.isdigit():  # "[N/A]": memory shared with the processor (GB10, Thor)
            return None
        if _is_visible(index, uuid):
            found.append(
                LocalGpu(
                    index=len(found),
                    name=name,
                    total_bytes=int(total) << 20,
                    free_bytes=int(free) << 20 if free.isdigit() else None,
                    read_with="nvidia-smi",
                )
            )
    return tuple(found)


def _is_visible(index: str, uuid: str) -> bool:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return True
    names = [name.strip() for name in visible.split(",")]
    return any(name == index or (name[:4] == "GPU-" and uuid.startswith(name)) for name in names)


def _from_torch() -> tuple[LocalGpu, ...]:
    import torch

    if torch.cuda.is_available():
        return tuple(_cuda(index) for index in range(torch.cuda.device_count()))
    if torch.backends.mps.is_available():
        return (
            LocalGpu(
                index=0,
                name="Apple GPU",
                total_bytes=torch.mps.recommended_max_memory(),
                free_bytes=None,
                read_with="torch.mps",
            ),
        )
    return ()


def _cuda(index: int) -> LocalGpu:
    import torch

    free, total = torch.cuda.mem_get_info(index)
    return LocalGpu(
        index=index,
        name=torch.cuda.get_device_name(index),
        total_bytes=total,
        free_bytes=free,
        read_with="torch.cuda",
    )
