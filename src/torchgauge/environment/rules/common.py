"""What rules share: questions to the facts, and the commands that install things."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Final

from torchgauge.environment.facts import Facts, Version
from torchgauge.environment.findings import Finding
from torchgauge.environment.versions import Build, best_build, build_tag, dotted, minor_of

Rule = Callable[[Facts], Iterable[Finding]]

PICKER: Final = (
    "uv finds the wheels by their tag; with pip take the command for that tag from "
    "https://pytorch.org/get-started/previous-versions/"
)

_START_WITH_GPUS: Final = {
    "Docker": "docker run --gpus all …",
    "Podman": "podman run --device nvidia.com/gpu=all …",
    "Kubernetes": 'resources: {limits: {"nvidia.com/gpu": 1}}',
    "Apptainer": "apptainer exec --nv …",
    "Singularity": "singularity exec --nv …",
}


def start_with_gpus(container: str) -> str:
    """Return how a runtime starts a container with access to the GPUs."""
    return _START_WITH_GPUS.get(container, _START_WITH_GPUS["Docker"])


def is_cpu_build(facts: Facts) -> bool:
    """Return whether the installed torch can use no GPU of NVIDIA's or AMD's."""
    return facts.torch.is_usable and facts.torch.cuda is None and facts.torch.hip is None


def driver_works(facts: Facts) -> bool:
    """Return whether the driver, or torch through it, lists a GPU."""
    return bool(facts.torch.gpus) or (facts.libcuda.init_status == 0 and bool(facts.libcuda.gpus))


def kernel_module_runs(facts: Facts) -> bool:
    """Return whether the NVIDIA kernel module is loaded; containers see the machine's."""
    return facts.host.kernel_driver is not None or "nvidia" in (facts.host.modules or ())


def has_numbered_node(facts: Facts) -> bool:
    """Return whether there is a device file of an NVIDIA GPU."""
    return any(node.removeprefix("/dev/nvidia").isdigit() for node in facts.host.device_nodes)


def gpu_signs(facts: Facts) -> tuple[str, ...]:
    """Return what shows that there is an NVIDIA GPU, whether or not it can be used."""
    host, signs = facts.host, []
    if host.nvidia_pci_devices:
        signs.append(f"NVIDIA display controllers on the PCI bus: {host.nvidia_pci_devices}")
    if host.kernel_driver:
        signs.append(f"NVIDIA kernel module {host.kernel_driver} is loaded")
    if has_numbered_node(facts):
        signs.append(f"device files: {', '.join(host.device_nodes)}")
    if facts.smi.gpus:
        names = ", ".join(gpu.name for gpu in facts.smi.gpus)
        signs.append(f"nvidia-smi lists {names}")
    if facts.libcuda.gpus:
        names = ", ".join(gpu.name for gpu in facts.libcuda.gpus)
        signs.append(f"the driver lists {names}")
    if {"/dev/nvhost-gpu", "/dev/nvgpu"} & set(host.device_nodes):
        signs.append("device files of a Jetson's GPU")
    if facts.libcuda.loaded and host.nvidia_pci_devices is None and not signs:
        # Where the bus can be read, a library alone says nothing: images bring one along.
        signs.append(f"the driver's library is installed: {facts.libcuda.path}")
    if facts.torch.hip and "/dev/kfd" in host.device_nodes:
        signs.append("AMD's driver runs (/dev/kfd)")
    if host.is_wsl and "/dev/dxg" in host.device_nodes:
        signs.append("Windows passes a GPU through (/dev/dxg)")
    return tuple(signs)


def driver_version(facts: Facts) -> str | None:
    """Return the driver's own version, from whoever knows it."""
    return facts.smi.driver or facts.host.kernel_driver


def capabilities(facts: Facts) -> tuple[Version, ...]:
    """Return the compute capability of every GPU that is known of."""
    for gpus in (facts.libcuda.gpus, facts.torch.gpus, facts.smi.gpus):
        known = tuple(gpu.capability for gpu in gpus if gpu.capability is not None)
        if known:
            return known
    return ()


def torch_release(facts: Facts) -> Version | None:
    """Return the release of the installed torch."""
    package = facts.python.package("torch")
    return minor_of(facts.torch.version or (package.version if package else ""))


def build_for(facts: Facts) -> Build | None:
    """Return the build of torch that runs on this driver and these GPUs."""
    return best_build(
        torch_release(facts),
        driver=driver_version(facts),
        driver_cuda=facts.libcuda.cuda,
        capabilities=capabilities(facts),
    )


def published_tag(version: str) -> str:
    """Return the tag of a published build; of others, such as NVIDIA's own, nothing follows."""
    tag = build_tag(version)
    return tag if re.fullmatch(r"cpu|cu\d+|rocm\d*", tag) else ""


def pip_install(facts: Facts, arguments: str) -> str:
    """Return how to install for the interpreter that is examined; uv's environments have no pip."""
    python = shlex.quote(facts.python.executable)
    if facts.python.has_pip is False:
        arguments = arguments.replace("--force-reinstall", "--reinstall")
        return f"uv pip install --python {python} {arguments}"
    return f"{python} -m pip install {arguments}"


def pip_uninstall(facts: Facts, *names: str) -> str:
    """Return how to remove packages from the interpreter that is examined."""
    python = shlex.quote(facts.python.executable)
    if facts.python.has_pip is False:
        return f"uv pip uninstall --python {python} {' '.join(names)}"
    return f"{python} -m pip uninstall -y {' '.join(names)}"


def install(facts: Facts, *names: str, tag: str, python: str | None = None) -> str:
    """Return the command that installs packages of torch's family in the build of a tag.

    ``python``: for another interpreter than the one that is examined.
    """
    where = f"--python {shlex.quote(python or facts.python.executable)}"
    return f"uv pip install {where} --reinstall --torch-backend={tag} {' '.join(names)}"


def install_build(facts: Facts, build: Build) -> str:
    """Return the command that puts a build in the place of the installed torch and companions."""
    release = torch_release(facts)
    package = facts.python.package("torch")
    if package and build.torch == release:
        exact = package.version.partition("+")[0]
    else:
        exact = f"{dotted(build.torch)}.*"
    companions = [name for name in ("torchvision", "torchaudio") if facts.python.package(name)]
    return install(facts, f'"torch=={exact}"', *companions, tag=build.tag)
