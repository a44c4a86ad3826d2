"""Between the GPU and torch: is there a driver, does it run, does it reach into this container."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from torchgauge.environment.facts import Facts
from torchgauge.environment.findings import Finding, Severity, error
from torchgauge.environment.rules.common import (
    Rule,
    driver_works,
    gpu_signs,
    has_numbered_node,
    is_cpu_build,
    kernel_module_runs,
    start_with_gpus,
)

_HIDING: Final = ("", "void", "none")
"""Values of ``NVIDIA_VISIBLE_DEVICES`` that give a container no GPU (NVIDIA Container Toolkit)."""
_TOOLKIT: Final = (
    "NVIDIA Container Toolkit: "
    "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html"
)
_MISMATCH: Final = "driver/library version mismatch"


def container_without_gpus(facts: Facts) -> Iterator[Finding]:
    """A container on a machine with a GPU that was started without access to it."""
    host = facts.host
    if driver_works(facts) or host.container is None or has_numbered_node(facts):
        return
    if not kernel_module_runs(facts):
        return  # the machine itself has no driver: the next rules
    visible = facts.variables.get("NVIDIA_VISIBLE_DEVICES")
    evidence = [*gpu_signs(facts), "in the container: no /dev/nvidia0"]
    if visible is not None:
        evidence.append(f"NVIDIA_VISIBLE_DEVICES={visible}")
    hidden = visible is not None and visible in _HIDING
    how = (
        "start it with NVIDIA_VISIBLE_DEVICES=all, which is what --gpus all sets"
        if hidden
        else "start the container with access to the GPUs; the machine needs the NVIDIA Container "
        "Toolkit for it"
    )
    yield Finding(
        name="container-without-gpus",
        # With a CPU build nobody meant to use them.
        severity=Severity.NOTICE if is_cpu_build(facts) else Severity.ERROR,
        problem=f"This {host.container} container was started without the machine's GPUs.",
        evidence=tuple(evidence),
        fix=how,
        commands=(start_with_gpus(host.container),),
        source=_TOOLKIT,
        explains_gpu=True,
    )


def container_without_compute(facts: Facts) -> Iterator[Finding]:
    """A container that got the device files, and not the driver's CUDA library."""
    host = facts.host
    if driver_works(facts) or host.container is None or facts.libcuda.loaded:
        return
    if not has_numbered_node(facts):
        return
    given = facts.variables.get("NVIDIA_DRIVER_CAPABILITIES")
    yield error(
        name="container-without-compute",
        problem="The container has the GPU's device files but not the driver's CUDA library.",
        evidence=(
            f"libcuda: {facts.libcuda.message}",
            "NVIDIA_DRIVER_CAPABILITIES "
            + ("is not set: utility alone" if given is None else f"is {given}"),
        ),
        fix="ask for the driver's compute capability when the container is started",
        commands=("docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility …",),
        source=_TOOLKIT,
        explains_gpu=True,
    )


def driver_missing(facts: Facts) -> Iterator[Finding]:
    """A GPU is there, and no NVIDIA driver at all."""
    host = facts.host
    there = bool(host.nvidia_pci_devices) or (host.is_wsl and "/dev/dxg" in host.device_nodes)
    if driver_works(facts) or not there or kernel_module_runs(facts):
        return
    if facts.libcuda.loaded:
        return
    evidence = [*gpu_signs(facts), f"libcuda: {facts.libcuda.message}"]
    if "nouveau" in (host.modules or ()):
        evidence.append("the nouveau driver, which has no CUDA, holds the GPU")
    where = "on the machine that runs this container, " if host.container else ""
    fix, command = (
        ("install NVIDIA's driver on Windows (not in the Linux subsystem) and restart it",
         "wsl --shutdown")
        if host.is_wsl
        else (f"{where}install the driver and restart", "sudo apt install nvidia-driver")
    )  # fmt: skip
    yield error(
        name="driver-missing",
        problem="There is an NVIDIA GPU but no NVIDIA driver.",
        evidence=tuple(evidence),
        fix=f"{fix} (Ubuntu: sudo ubuntu-drivers install)" if not host.is_wsl else fix,
        commands=(command,),
        source="https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/",
        explains_gpu=True,
    )


def driver_mismatch(facts: Facts) -> Iterator[Finding]:
    """The driver's files were updated under a loaded kernel module."""
    said = _MISMATCH in facts.smi.message.lower()
    if driver_works(facts) or not (said or facts.libcuda.init_status == 803):
        return
    evidence = [f"nvidia-smi: {facts.smi.message}"] if said else ["cuInit: 803"]
    if facts.host.kernel_driver:
        evidence.append(f"loaded kernel module: {facts.host.kernel_driver}")
    yield error(
        name="driver-library-mismatch",
        problem="The driver's libraries and its loaded kernel module have different versions, as "
        "after an update without a restart.",
        evidence=tuple(evidence),
        fix="restart the machine; where that cannot be, stop everything on the GPUs and reload the "
        "module",
        commands=(
            "sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia",
            "sudo modprobe nvidia",
        ),
        source="CUDA driver API, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        explains_gpu=True,
    )


def driver_not_loaded(facts: Facts) -> Iterator[Finding]:
    """The driver is installed, and its kernel module does not run."""
    host = facts.host
    installed = facts.libcuda.loaded or facts.smi.path is not None
    if driver_works(facts) or not installed or not gpu_signs(facts) or host.is_wsl:
        return
    if host.system != "Linux" or host.modules is None or kernel_module_runs(facts):
        return  # a sandbox that hides the kernel's files says nothing of the module
    evidence = ["/proc/driver/nvidia/version is missing", "modules: nvidia is not among them"]
    if facts.smi.message:
        evidence.append(f"nvidia-smi: {facts.smi.message}")
    if "nouveau" in host.modules:
        evidence.append("the nouveau driver holds the GPU")
    yield error(
        name="driver-not-loaded",
        problem="The NVIDIA driver is installed, but its kernel module is not loaded.",
        evidence=tuple(evidence),
        fix="load it; where that fails, `sudo dmesg` says why: a kernel update without a rebuilt "
        "module (install the headers, reinstall the driver), nouveau, or secure boot",
        commands=("sudo modprobe nvidia",),
        source="https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/",
        explains_gpu=True,
    )


def devices_closed(facts: Facts) -> Iterator[Finding]:
    """The user may not open the GPU's device files."""
    closed = facts.host.closed_device_nodes
    if driver_works(facts) or not closed:
        return
    yield error(
        name="gpu-access-denied",
        problem="This user has no access to the GPU's device files.",
        evidence=(f"no right to read and write: {', '.join(closed)}",),
        fix="join the group that owns them and log in again; on a cluster, ask the scheduler for "
        "a GPU",
        commands=('sudo usermod -aG video,render "$USER"',),
        source="access(2)",
        explains_gpu=True,
    )


# ---------------------------------------------------------------------------- cuInit


_DRIVER_API: Final = "CUDA driver API, CUresult: https://docs.nvidia.com/cuda/cuda-driver-api/"
_INIT_ERRORS: Final = {
    34: ("CUDA_ERROR_STUB_LIBRARY", error(
        name="cuda-stub-library",
        problem="The libcuda that is loaded is the toolkit's stub for linking, not the driver.",
        fix="take the toolkit's stubs folder out of LD_LIBRARY_PATH",
        commands=("unset LD_LIBRARY_PATH",),
    )),
    46: ("CUDA_ERROR_DEVICE_UNAVAILABLE", error(
        name="gpu-exclusive",
        problem="The GPU allows one process at a time, and another process uses it.",
        fix="wait for that process, or set the compute mode back to default",
        commands=("sudo nvidia-smi --compute-mode=DEFAULT",),
    )),
    100: ("CUDA_ERROR_NO_DEVICE", error(
        name="driver-without-gpu",
        problem="The driver runs but lists no GPU.",
        fix="look for the GPU in `lspci` and for Xid errors in `sudo dmesg`: it may have fallen "
        "off the bus, need a newer driver, or be given to a virtual machine",
    )),
    802: ("CUDA_ERROR_SYSTEM_NOT_READY", error(
        name="fabric-manager-not-running",
        problem="The GPUs are joined by NVSwitch, and the fabric manager that sets it up does not "
        "run.",
        fix="install nvidia-fabricmanager in the driver's exact version and start it",
        commands=("sudo systemctl enable --now nvidia-fabricmanager",),
    )),
    804: ("CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", error(
        name="compat-library-not-supported",
        problem="A forward-compatibility libcuda is loaded that this GPU or driver does not "
        "support; it is for data-centre GPUs on drivers older than itself.",
        fix="take the cuda-compat folder out of the library path, or update the driver",
        commands=("sudo apt remove 'cuda-compat-*' && sudo ldconfig",),
    )),
    999: ("CUDA_ERROR_UNKNOWN", error(
        name="driver-broken",
        problem="The driver does not initialise, as after a suspend or without its nvidia_uvm "
        "module.",
        fix="reload nvidia_uvm, else restart",
        commands=("sudo rmmod nvidia_uvm; sudo modprobe nvidia_uvm",),
    )),
}  # fmt: skip
"""By what ``cuInit`` returns: its symbol, and what is wrong."""
_OTHER_INIT_ERROR: Final = ("CUresult", error(
    name="driver-broken",
    problem="The driver does not initialise.",
    fix="restart; then look for NVRM lines in `sudo dmesg`",
))  # fmt: skip


def init_failed(facts: Facts) -> Iterator[Finding]:
    """The driver's library is there, and ``cuInit`` fails."""
    status = facts.libcuda.init_status
    if driver_works(facts) or status in (None, 0) or not gpu_signs(facts):
        return
    symbol, finding = _INIT_ERRORS.get(status, _OTHER_INIT_ERROR)
    evidence = (f"cuInit: {status} ({symbol})", f"library: {facts.libcuda.path}")
    yield replace(finding, evidence=evidence, source=_DRIVER_API, explains_gpu=True)


def driver_dies(facts: Facts) -> Iterator[Finding]:
    """The process that asked the driver was killed, or never came back."""
    if driver_works(facts) or not facts.libcuda.crashed or not gpu_signs(facts):
        return
    evidence = [f"libcuda: {facts.libcuda.message}"]
    if facts.smi.message:
        evidence.append(f"nvidia-smi: {facts.smi.message}")
    yield error(
        name="driver-does-not-answer",
        problem="A process that asks the driver for its GPUs dies or hangs.",
        evidence=tuple(evidence),
        fix="look for Xid errors in `sudo dmesg`, and restart the machine",
        source="https://docs.nvidia.com/deploy/xid-errors/",
        explains_gpu=True,
    )


CHAIN: Final[tuple[Rule, ...]] = (
    container_without_gpus,
    container_without_compute,
    driver_missing,
    driver_mismatch,
    driver_not_loaded,
    devices_closed,
    init_failed,
    driver_dies,
)
