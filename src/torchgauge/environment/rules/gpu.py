"""Between the driver and the model: the build of torch, what is visible, what really computes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from torchgauge.environment.facts import Check, Facts, Version
from torchgauge.environment.findings import Finding, Severity, error, notice
from torchgauge.environment.rules.common import (
    PICKER,
    Rule,
    build_for,
    driver_version,
    driver_works,
    gpu_signs,
    install_build,
    is_cpu_build,
    start_with_gpus,
)
from torchgauge.environment.versions import dotted, driver_need, is_driver_enough, minor_of
from torchgauge.units import format_bytes

_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_VISIBLE_SOURCE: Final = (
    "CUDA C++ Programming Guide, environment variables: "
    "https://docs.nvidia.com/cuda/cuda-c-programming-guide/#env-vars"
)


def cpu_build(facts: Facts) -> Iterator[Finding]:
    """A build of torch without CUDA on a machine whose NVIDIA driver works."""
    torch = facts.torch
    if not is_cpu_build(facts) or not facts.libcuda.gpus:
        return
    build = build_for(facts)
    known = f"driver {driver_version(facts) or 'of unknown version'}"
    need = driver_need(facts.libcuda.cuda) if facts.libcuda.cuda else None
    if facts.libcuda.cuda:
        known += f", for CUDA up to {dotted(facts.libcuda.cuda)}"
    yield error(
        name="cpu-build-on-gpu-machine",
        problem=f"torch {torch.version} is a CPU build; it cannot use the GPU of this machine.",
        evidence=(*gpu_signs(facts), known, "torch.version.cuda is None"),
        fix=f"install a CUDA build of torch. {PICKER}",
        commands=(install_build(facts, build),) if build else (),
        source="pytorch/pytorch RELEASE.md" + (f"; {need.source}" if need else ""),
        explains_gpu=True,
    )


def driver_too_old(facts: Facts) -> Iterator[Finding]:
    """The driver is older than the CUDA version of the build needs."""
    torch, libcuda = facts.torch, facts.libcuda
    cuda = minor_of(torch.cuda) if torch.cuda else None
    if cuda is None or torch.gpus:
        return
    driver = driver_version(facts)
    if is_driver_enough(cuda, driver=driver, driver_cuda=libcuda.cuda) is not False:
        return
    need = driver_need(cuda)
    assert need is not None  # a CUDA version without a row is never too new
    build = build_for(facts)
    fix = f"update the NVIDIA driver to {need.driver} or newer"
    if build:
        fix = (
            f"keep the driver and install the build of torch {dotted(build.torch)} for CUDA "
            f"{dotted(build.cuda)}, or {fix}. {PICKER}"
        )
    evidence = [f"driver {driver or 'of unknown version'}"]
    if libcuda.cuda:
        evidence[0] += f", which knows CUDA up to {dotted(libcuda.cuda)}"
    if torch.cuda_error:
        evidence.append(f"torch: {_first_sentences(torch.cuda_error)}")
    yield error(
        name="driver-too-old",
        problem=f"torch {torch.version} is built for CUDA {torch.cuda}, which needs driver "
        f"{need.driver} or newer.",
        evidence=tuple(evidence),
        fix=fix,
        commands=(install_build(facts, build),) if build else (),
        source=need.source,
        explains_gpu=True,
    )


def visible_devices(facts: Facts) -> Iterator[Finding]:
    """``CUDA_VISIBLE_DEVICES`` hides every GPU, or names one that is not there."""
    value = facts.variables.get(_VISIBLE)
    count = len(facts.libcuda.gpus) or len(facts.smi.gpus)
    if value is None or not count:
        return
    here = "one GPU is here, number 0" if count == 1 else f"{count} GPUs are here, from 0 on"
    if value.strip() in ("", "-1"):
        yield error(
            name="visible-devices-empty",
            problem=f'{_VISIBLE}="{value}" hides every GPU from CUDA.',
            evidence=(here,),
            fix="unset it, or name the GPUs to use",
            commands=(f"unset {_VISIBLE}",),
            source=_VISIBLE_SOURCE,
            explains_gpu=True,
        )
        return
    wrong = [word for word in value.split(",") if not _names_a_gpu(word.strip(), facts, count)]
    if wrong:
        yield error(
            name="visible-devices-wrong",
            problem=f'{_VISIBLE}="{value}" names a GPU that does not exist here: '
            f'"{wrong[0].strip()}". CUDA ignores it and everything after it.',
            evidence=(here, *(f"GPU {gpu.index}: {gpu.uuid}" for gpu in facts.smi.gpus)),
            fix="name existing GPUs, separated by commas, or unset it",
            commands=(f"unset {_VISIBLE}",),
            source=_VISIBLE_SOURCE,
            explains_gpu=True,
        )


def _names_a_gpu(word: str, facts: Facts, count: int) -> bool:
    if word.isdigit():
        return int(word) < count
    if word.startswith("MIG-"):
        return True  # parts of a GPU, which the queries do not list
    if word.startswith("GPU-"):
        return not facts.smi.gpus or any(gpu.uuid.startswith(word) for gpu in facts.smi.gpus)
    return False


def not_in_build(facts: Facts) -> Iterator[Finding]:
    """The build has no kernels that run on a GPU."""
    torch = facts.torch
    if not torch.cuda or not torch.architectures:
        return
    gpus = torch.gpus or facts.libcuda.gpus
    for gpu in gpus:
        if gpu.capability is None or runs_on(gpu.capability, torch.architectures):
            continue
        build = build_for(facts)
        yield error(
            name="gpu-not-in-build",
            problem=f"torch {torch.version} has no kernels for {gpu.name}, a GPU of compute "
            f"capability {dotted(gpu.capability)}.",
            evidence=(f"the build has {' '.join(torch.architectures)}",),
            fix=f"install a build that has them. {PICKER}"
            if build
            else "no published build runs on all GPUs here: hide this one with "
            f"{_VISIBLE}, or build torch from source for it",
            commands=(install_build(facts, build),) if build else (),
            source="pytorch/pytorch RELEASE.md, CUDA support matrix",
            explains_gpu=True,
        )


def runs_on(capability: Version, architectures: tuple[str, ...]) -> bool:
    """Return whether a build's kernels run on a GPU.

    Binaries (``sm_``) run on GPUs of their major version and the same or a higher minor one;
    PTX (``compute_``) on every newer GPU. A suffix ``a`` ties either to its own capability, ``f``
    to its major version. Source: CUDA C++ Programming Guide, binary and PTX compatibility.

    >>> runs_on((8, 9), ("sm_80", "sm_86")), runs_on((12, 0), ("sm_80", "sm_90"))
    (True, False)
    """
    for name in architectures:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if found is None:
            continue
        kind, own, suffix = found[1], (int(found[2]), int(found[3])), found[4]
        if suffix == "a":
            fits = capability == own
        elif kind == "sm" or suffix == "f":
            fits = capability[0] == own[0] and capability[1] >= own[1]
        else:
            fits = capability >= own
        if fits:
            return True
    return False


def memory_full(facts: Facts) -> Iterator[Finding]:
    """Other processes leave too little of a GPU, or half of it."""
    for gpu in facts.smi.gpus:
        if not gpu.total_bytes or gpu.free_bytes is None:
            continue
        free = gpu.free_bytes / gpu.total_bytes
        if free > 0.5:
            continue
        is_full = free < 0.05
        holders = [holder for holder in facts.smi.holders if holder.gpu_uuid == gpu.uuid]
        yield Finding(
            name="gpu-memory-full" if is_full else "gpu-memory-held",
            severity=Severity.ERROR if is_full else Severity.WARNING,
            problem=f"GPU {gpu.index} ({gpu.name}) has {format_bytes(gpu.free_bytes)} of "
            f"{format_bytes(gpu.total_bytes)} free.",
            evidence=tuple(
                f"process {holder.pid}, {holder.name or 'outside this container'}: "
                + (format_bytes(holder.used_bytes) if holder.used_bytes else "memory not known")
                for holder in holders
            )
            or ("nvidia-smi names no process: one of another container or user",),
            fix="wait for these processes or stop those that are yours; or choose another GPU with "
            f"{_VISIBLE} (CUDA_DEVICE_ORDER=PCI_BUS_ID numbers them as nvidia-smi does)",
            commands=tuple(f"kill {holder.pid}" for holder in holders if holder.name),
            source="nvidia-smi --query-compute-apps",
            explains_gpu=is_full,
        )


def device_order(facts: Facts) -> Iterator[Finding]:
    """GPUs of several kinds, which CUDA numbers from the fastest on, and nvidia-smi by the bus."""
    kinds = dict.fromkeys(gpu.name for gpu in facts.smi.gpus or facts.libcuda.gpus)
    if len(kinds) < 2 or facts.variables.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return
    yield notice(
        name="device-order-differs",
        problem="There are GPUs of several kinds: CUDA numbers them from the fastest on, "
        "nvidia-smi by their place on the bus.",
        evidence=tuple(f"cuda:{gpu.index} is {gpu.name}" for gpu in facts.torch.gpus),
        fix=f"set this where you choose GPUs by number with {_VISIBLE}",
        commands=("export CUDA_DEVICE_ORDER=PCI_BUS_ID",),
        source=_VISIBLE_SOURCE,
    )


def no_gpu(facts: Facts) -> Iterator[Finding]:
    """Nothing here looks like a GPU."""
    torch = facts.torch
    if torch.gpus or torch.has_mps or gpu_signs(facts):
        return
    container = facts.host.container
    build = _built_for(facts)
    yield notice(
        name="no-gpu",
        problem=f"There is no NVIDIA GPU here, and {build}."
        + (" Models run on the CPU." if torch.is_usable else ""),
        evidence=("no NVIDIA controller on the PCI bus, no driver, no device file",)
        if facts.host.nvidia_pci_devices is not None
        else ("no driver and no device file; the PCI bus cannot be read",),
        fix="if the machine has a GPU, "
        + (
            f"start the {container} container with access to it"
            if container
            else "check that it is seated and passed through to this system"
        )
        + ". Otherwise there is nothing to do",
        commands=(start_with_gpus(container),) if container else (),
    )


def _built_for(facts: Facts) -> str:
    torch = facts.torch
    if not torch.is_usable:
        return "torch cannot be used"
    if torch.cuda:
        return f"torch {torch.version} is built for CUDA {torch.cuda}"
    return f"torch {torch.version} is " + (
        f"built for ROCm {torch.hip}" if torch.hip else "a CPU build"
    )


# ---------------------------------------------------------------------------- unexplained


def cuda_unavailable(facts: Facts) -> Iterator[Finding]:
    """Everything looks right, and torch says no."""
    torch = facts.torch
    if not torch.is_usable or not (torch.cuda or torch.hip) or torch.gpus:
        return
    if not (driver_works(facts) or gpu_signs(facts)):
        return
    yield error(
        name="cuda-not-available",
        problem="torch cannot use the GPU, and no known reason applies.",
        evidence=(f"torch: {_first_sentences(torch.cuda_error) or 'no GPU'}", *gpu_signs(facts)),
        fix="restart the machine; then report this with the output of "
        "`torchgauge doctor --format json`",
    )


def failed_on_gpu(facts: Facts) -> list[Finding]:
    """A real computation on a GPU fails or comes out wrong."""
    checks = facts.checks or ()
    return [_failed(check) for check in checks if not check.ok and check.device != "cpu"]


def failed_on_cpu(facts: Facts) -> list[Finding]:
    """A real computation on the CPU fails or comes out wrong: no GPU's fault explains that."""
    checks = facts.checks or ()
    return [_failed(check) for check in checks if not check.ok and check.device == "cpu"]


_HINTS: Final = (
    (r"out of memory", "free memory of the GPU, then run this again"),
    (r"CUDNN_STATUS|cudnn", "put cuDNN back in the version that torch asks for; no other cuDNN may "
     "be on LD_LIBRARY_PATH"),
    (r"NCCL|nccl", "run again with NCCL_DEBUG=INFO, which says where it stops; NCCL_P2P_DISABLE=1 "
     "and NCCL_SHM_DISABLE=1 tell whether it is the way between the GPUs"),
    (r"gloo|getaddrinfo|connect", "gloo needs the machine's own name to resolve: see /etc/hosts, "
     "or name a network card in GLOO_SOCKET_IFNAME"),
    (r"No space left|shared memory|shm", "give more shared memory: docker run --shm-size=8g"),
    (r"elements are wrong", "this GPU or its memory is faulty: see `nvidia-smi -q -d ECC`"),
)  # fmt: skip


def _failed(check: Check) -> Finding:
    hint = next((text for pattern, text in _HINTS if re.search(pattern, check.error)), None)
    on = "the CPU" if check.device == "cpu" else check.device
    return error(
        name="check-failed",
        problem=f"The {check.name} test on {on} failed.",
        evidence=(check.error,),
        fix=hint or "report this with the output of `torchgauge doctor --format json`",
    )


def _first_sentences(text: str) -> str:
    return text if len(text) <= 200 else text[:200].rsplit(" ", 1)[0] + " …"


CHAIN: Final[tuple[Rule, ...]] = (
    cpu_build,
    driver_too_old,
    visible_devices,
    not_in_build,
    memory_full,
    device_order,
    no_gpu,
)
UNEXPLAINED: Final[tuple[Rule, ...]] = (cuda_unavailable, failed_on_gpu)
