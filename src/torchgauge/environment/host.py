"""The machine, read from its files; needs no driver, no torch and no rights."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torchgauge.environment.facts import Host, Space, Version
from torchgauge.environment.limits import (
    cpu_limit_of,
    cpus_here,
    memory_limit_of,
    memory_of,
)
from torchgauge.environment.surroundings import Surroundings

_NVIDIA_VENDOR: Final = "0x10de"
_DISPLAY_CLASS: Final = "0x03"
_NODES: Final = (
    "nvidia[0-9]*", "nvidiactl", "nvidia-uvm",  # NVIDIA
    "dxg",  # Windows' subsystem for Linux
    "nvhost-gpu", "nvgpu", "nvmap",  # Jetson
    "kfd",  # AMD
)  # fmt: skip
_MODULES: Final = ("nvidia", "nvidia_uvm", "nvidia_drm", "nouveau", "amdgpu")
_CUDA_LIBRARY: Final = re.compile(
    r"lib(cudart|cublas|cublasLt|cudnn|nccl|nvrtc|cufft|curand|cusolver|cusparse|nvJitLink)"
    r"\.so(\.\d+)?"
)
_NVCC_SECONDS: Final = 10.0

_CONTAINER_VARIABLES: Final[Mapping[str, str]] = {
    "KUBERNETES_SERVICE_HOST": "Kubernetes",
    "APPTAINER_CONTAINER": "Apptainer",
    "SINGULARITY_CONTAINER": "Singularity",
}
_CONTAINER_FILES: Final[Mapping[str, str]] = {
    "/run/.containerenv": "Podman",
    "/.dockerenv": "Docker",
}
_CONTAINER_GROUPS: Final[Mapping[str, str]] = {
    "kubepods": "Kubernetes", "docker": "Docker", "libpod": "Podman", "lxc": "LXC",
    "containerd": "containerd",
}  # fmt: skip

_CACHES: Final = (
    # purpose, variables that name the folder itself, variable of a parent, else below the home
    ("torch.hub downloads", ("TORCH_HOME",), "torch", ".cache/torch"),
    ("Hugging Face downloads", ("HF_HUB_CACHE", "HF_HOME"), "huggingface", ".cache/huggingface"),
    ("pip downloads", ("PIP_CACHE_DIR",), "pip", ".cache/pip"),
    ("compiled Triton kernels", ("TRITON_CACHE_DIR",), None, ".triton"),
)


def read_host(surroundings: Surroundings) -> Host:
    """Return what the files of the machine say."""
    nodes = _device_nodes(surroundings)
    total, available = memory_of(surroundings)
    return Host(
        system=platform.system(),
        machine=platform.machine(),
        container=_container(surroundings),
        is_wsl="microsoft" in (surroundings.read("/proc/version") or "").lower(),
        kernel_driver=_kernel_driver(surroundings),
        modules=_modules(surroundings),
        nvidia_pci_devices=_nvidia_pci_devices(surroundings),
        device_nodes=nodes,
        closed_device_nodes=tuple(
            node for node in nodes if not os.access(surroundings.path(node), os.R_OK | os.W_OK)
        ),
        shared_memory=_shared_memory(surroundings),
        memory_bytes=total,
        available_memory_bytes=available,
        memory_limit_bytes=memory_limit_of(surroundings),
        cpus=cpus_here(),
        cpu_limit=cpu_limit_of(surroundings),
        caches=_caches(surroundings),
        open_files_limit=_open_files_limit(),
        library_path_cuda=_library_path_cuda(surroundings),
        cuda_toolkit=_cuda_toolkit(surroundings),
    )


def _container(surroundings: Surroundings) -> str | None:
    for variable, name in _CONTAINER_VARIABLES.items():
        if surroundings.environ.get(variable):
            return name
    for file, name in _CONTAINER_FILES.items():
        if surroundings.path(file).exists():
            return name
    groups = surroundings.read("/proc/1/cgroup") or ""
    return next((name for part, name in _CONTAINER_GROUPS.items() if part in groups), None)


def _kernel_driver(surroundings: Surroundings) -> str | None:
    """Return the version in ``/proc/driver/nvidia/version``, which both kinds of module have."""
    text = surroundings.read("/proc/driver/nvidia/version") or ""
    found = re.search(r"NVRM version:.*?\s(\d{3,}\.\d+(?:\.\d+)?)\s", text)
    return found[1] if found else None


def _modules(surroundings: Surroundings) -> tuple[str, ...] | None:
    text = surroundings.read("/proc/modules")
    if text is None:
        return None
    loaded = {line.split(" ", 1)[0] for line in text.splitlines()}
    return tuple(name for name in _MODULES if name in loaded)


def _nvidia_pci_devices(surroundings: Surroundings) -> int | None:
    folder = surroundings.path("/sys/bus/pci/devices")
    try:
        devices = list(folder.iterdir())
    except OSError:
        return None
    return sum(
        _first_word(device / "vendor") == _NVIDIA_VENDOR
        and _first_word(device / "class").startswith(_DISPLAY_CLASS)
        for device in devices
    )


def _first_word(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _device_nodes(surroundings: Surroundings) -> tuple[str, ...]:
    folder = surroundings.path("/dev")
    names = {path.name for pattern in _NODES for path in folder.glob(pattern)}
    return tuple(f"/dev/{name}" for name in sorted(names))


# ---------------------------------------------------------------------------- room


def _shared_memory(surroundings: Surroundings) -> Space | None:
    if platform.system() != "Linux":
        return None
    if not surroundings.path("/dev/shm").is_dir():
        return Space(purpose="shared memory", path="/dev/shm", exists=False)
    return _space(surroundings, "shared memory", "/dev/shm")


def _caches(surroundings: Surroundings) -> tuple[Space, ...]:
    environ = surroundings.environ
    home = environ.get("HOME") or environ.get("USERPROFILE") or os.path.expanduser("~")
    general = environ.get("XDG_CACHE_HOME")
    found = []
    for purpose, variables, below_general, below_home in _CACHES:
        path = next((environ[name] for name in variables if environ.get(name)), None)
        if path is None and general and below_general:
            path = os.path.join(general, below_general)
        found.append(_space(surroundings, purpose, path or os.path.join(home, below_home)))
    temporary = environ.get("TMPDIR") or "/tmp"
    found.append(_space(surroundings, "temporary files", temporary))
    return tuple(found)


def _space(surroundings: Surroundings, purpose: str, path: str) -> Space:
    """Return the room where a folder is, or will be made."""
    if path.startswith("~"):
        path = surroundings.environ.get("HOME", "") + path[1:]
    absolute = os.path.join(surroundings.directory, path)
    existing = surroundings.path(absolute) if os.path.isabs(path) else Path(absolute)
    wanted = existing
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        usage = shutil.disk_usage(existing)
    except OSError:
        return Space(purpose=purpose, path=path)
    # Some file systems have no size: /proc, and some that are mounted through FUSE.
    is_sized = usage.total > 0
    return Space(
        purpose=purpose,
        path=path,
        total_bytes=usage.total if is_sized else None,
        free_bytes=usage.free if is_sized else None,
        writable=os.access(existing, os.W_OK),
        exists=existing == wanted,
        read_only=bool(os.statvfs(existing).f_flag & os.ST_RDONLY)
        if hasattr(os, "statvfs")
        else None,
    )


def _open_files_limit() -> int | None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _library_path_cuda(surroundings: Surroundings) -> tuple[str, ...]:
    """Return the CUDA libraries that the loader finds there, by the names that it asks for."""
    found = []
    for folder in filter(None, surroundings.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)):
        try:
            names = sorted(os.listdir(surroundings.path(folder)))
        except OSError:
            continue
        found += [os.path.join(folder, name) for name in names if _CUDA_LIBRARY.fullmatch(name)]
    return tuple(found)


def _cuda_toolkit(surroundings: Surroundings) -> Version | None:
    program = surroundings.which("nvcc")
    if program is None:
        return None
    ended = surroundings.run([program, "--version"], time_limit_s=_NVCC_SECONDS)
    found = re.search(r"release (\d+)\.(\d+)", ended.stdout)
    return (int(found[1]), int(found[2])) if found else None
