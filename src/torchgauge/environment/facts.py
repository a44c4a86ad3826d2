"""What was seen of an environment: plain facts, no judgement. ``rules/`` reads nothing else.

``None`` always means *not known*: the source was missing, unreadable, or did not answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Version = tuple[int, int]
"""Major and minor: a CUDA version, a compute capability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A file system that something is written to."""

    purpose: str
    path: str
    """Where it is to be written; it may not exist yet."""
    total_bytes: int | None = None
    free_bytes: int | None = None
    writable: bool | None = None
    exists: bool | None = None
    read_only: bool | None = None
    """Whether the file system is mounted for reading only: no right helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine and its kernel, seen through files."""

    system: str = ""
    """As ``platform.system()``: Linux, Darwin, Windows."""
    machine: str = ""
    """As ``platform.machine()``: x86_64, aarch64."""
    container: str | None = None
    """Which runtime this runs in; ``None``: not in a container, as far as can be seen."""
    is_wsl: bool = False
    kernel_driver: str | None = None
    """Version of the loaded NVIDIA kernel module; containers see the host's."""
    modules: tuple[str, ...] | None = None
    """Loaded kernel modules that matter: nvidia, nvidia_uvm, nouveau, amdgpu."""
    nvidia_pci_devices: int | None = None
    """NVIDIA display controllers on the PCI bus; containers see the host's."""
    device_nodes: tuple[str, ...] = ()
    """GPU device files, such as ``/dev/nvidia0``."""
    closed_device_nodes: tuple[str, ...] = ()
    """Those among them that this user may not open."""
    shared_memory: Space | None = None
    """``exists`` is false where Linux has no ``/dev/shm``; ``None`` on other systems."""
    memory_bytes: int | None = None
    available_memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    """What the control group, a container's or a scheduler's, may hold; ``None``: no limit."""
    cpus: int | None = None
    """Those that this process may run on."""
    cpu_limit: float | None = None
    """How many CPUs' time the control group may use; ``None``: no limit."""
    caches: tuple[Space, ...] = ()
    open_files_limit: int | None = None
    """The soft limit; data loaders pass tensors between processes as open files."""
    library_path_cuda: tuple[str, ...] = ()
    """CUDA libraries in the folders of ``LD_LIBRARY_PATH``, which are loaded before torch's own."""
    cuda_toolkit: Version | None = None
    """Version that ``nvcc`` on the search path states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmiGpu:
    """One GPU as ``nvidia-smi`` lists it, whatever ``CUDA_VISIBLE_DEVICES`` says."""

    index: int
    uuid: str
    name: str
    capability: Version | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that holds memory of a GPU."""

    gpu_uuid: str
    pid: int
    name: str
    """Empty when it runs outside this container and cannot be named."""
    used_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Smi:
    """What ``nvidia-smi`` says."""

    path: str | None = None
    message: str = ""
    """Its own words when it failed."""
    driver: str | None = None
    gpus: tuple[SmiGpu, ...] = ()
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverGpu:
    """One GPU as the driver's library lists it."""

    index: int
    name: str
    capability: Version
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Libcuda:
    """What the driver's library answers, asked in a process of its own."""

    loaded: bool = False
    path: str | None = None
    message: str = ""
    """Why it could not be loaded, or how the process ended when it did not answer."""
    crashed: bool = False
    """Whether the process that asked it died or hung."""
    cuda: Version | None = None
    """The newest CUDA version that the driver knows."""
    init_status: int | None = None
    """What ``cuInit`` returned; 0 is success."""
    gpus: tuple[DriverGpu, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed distribution."""

    name: str
    """Normalised: lower case, with ``-``."""
    version: str
    location: str = ""
    requires: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    """Wheel tags, such as ``cp311-cp311-manylinux_2_28_x86_64``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """The interpreter that is examined, and what is installed for it."""

    executable: str = ""
    version: str = ""
    tag: str = ""
    """Such as ``cp311``."""
    prefix: str = ""
    message: str = ""
    """How it ended when it did not answer."""
    packages: tuple[Package, ...] = ()
    torch_origin: str | None = None
    """The file that ``import torch`` would load."""
    has_pip: bool | None = None
    is_managed: bool = False
    """Whether the system's package manager keeps pip from installing (PEP 668)."""
    shadowing: tuple[str, ...] = ()
    """Files of the user's that Python takes in the place of its own modules."""

    def named(self, name: str) -> tuple[Package, ...]:
        """Return the distributions of a name, first the one that Python finds first."""
        return tuple(package for package in self.packages if package.name == name)

    def package(self, name: str) -> Package | None:
        """Return the distribution of a name that Python finds first."""
        found = self.named(name)
        return found[0] if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """How the import of one module went, in a process of its own."""

    module: str
    ok: bool
    version: str = ""
    cuda: str | None = None
    """The CUDA version that it was built with, where the module says so."""
    error: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchGpu:
    """One GPU as torch lists it."""

    index: int
    name: str
    capability: Version | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Torch:
    """What torch says of itself, asked in a process of its own."""

    imported: Import | None = None
    """``None``: it was not asked, because no torch is installed."""
    version: str = ""
    cuda: str | None = None
    """CUDA version of the build; ``None`` for a CPU or a ROCm build."""
    hip: str | None = None
    cudnn: str | None = None
    nccl: str | None = None
    architectures: tuple[str, ...] = ()
    """What the build has kernels for, as ``sm_90`` and ``compute_90``."""
    has_mps: bool = False
    cuda_available: bool | None = None
    cuda_error: str = ""
    """What torch says when CUDA is initialised and fails."""
    gpus: tuple[TorchGpu, ...] = ()
    threads: int | None = None
    """With how many it computes on the CPU."""
    problems: tuple[str, ...] = ()
    """Questions that this torch answered with an error."""
    companions: tuple[Import, ...] = ()
    """torchvision and torchaudio, where they are installed."""

    @property
    def is_usable(self) -> bool:
        """Whether it could be imported and is PyTorch, not a file of that name."""
        return self.imported is not None and self.imported.ok and bool(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A real computation on one device."""

    device: str
    """``cpu``, ``cuda:0``; for the all-reduce all devices together."""
    name: str
    """allocation, matmul, convolution, all-reduce."""
    ok: bool
    detail: str = ""
    error: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that was seen."""

    host: Host = field(default_factory=Host)
    smi: Smi = field(default_factory=Smi)
    libcuda: Libcuda = field(default_factory=Libcuda)
    python: Python = field(default_factory=Python)
    torch: Torch = field(default_factory=Torch)
    checks: tuple[Check, ...] | None = None
    """``None``: not run."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """The environment variables that matter here, and no other."""
