"""Room and limits: shared memory, disks, open files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from torchgauge.environment.facts import Facts, Space
from torchgauge.environment.findings import Finding, Severity
from torchgauge.environment.rules.common import Rule
from torchgauge.units import format_bytes

_MIB: Final = 1 << 20
SMALL_SHARED_MEMORY: Final = 1024 * _MIB
"""NCCL asks for 1 GB in containers (NCCL user guide, troubleshooting, sharing data)."""
FULL_DISK: Final = 100 * _MIB
"""Less than one ResNet-50 checkpoint, 98 MiB."""
LOW_DISK: Final = 2048 * _MIB
"""Less than a wheel of torch with its CUDA libraries."""
FEW_OPEN_FILES: Final = 1024
"""Linux' usual soft limit; each tensor that a data loader's worker sends is an open file."""

_MORE_SHARED_MEMORY: Final = {
    "Docker": "docker run --shm-size=8g …",
    "Podman": "podman run --shm-size=8g …",
    "Kubernetes": "volumes: [{name: shm, emptyDir: {medium: Memory}}], mounted at /dev/shm",
}


def shared_memory(facts: Facts) -> Iterator[Finding]:
    """Too little of it for data loaders with workers and for NCCL."""
    space = facts.host.shared_memory
    if space is None or space.total_bytes is None or space.total_bytes >= SMALL_SHARED_MEMORY:
        return
    container = facts.host.container
    command = _MORE_SHARED_MEMORY.get(container or "", "sudo mount -o remount,size=8G /dev/shm")
    yield Finding(
        name="shared-memory-small",
        severity=Severity.WARNING,
        problem=f"/dev/shm has {format_bytes(space.total_bytes)}: data loaders with workers die of "
        "a bus error, and NCCL between GPUs may fail.",
        evidence=(
            f"{format_bytes(space.free_bytes or 0)} of it free",
            *((f"64 MiB is what a {container} container gets by default",) if container else ()),
        ),
        fix="give it 1 GiB or more; --ipc=host shares the machine's"
        if container
        else "make it larger",
        commands=(command,),
        source="NCCL user guide, troubleshooting: shared memory; PyTorch README, Docker image",
    )


def disks(facts: Facts) -> Iterator[Finding]:
    """Caches on a disk that is full or nearly so."""
    by_disk: dict[tuple[int, int], list[Space]] = defaultdict(list)
    for space in facts.host.caches:
        if space.total_bytes is not None and space.free_bytes is not None:
            # The same sizes to the byte are the same disk.
            by_disk[space.total_bytes, space.free_bytes].append(space)
    for (total, free), spaces in by_disk.items():
        if free >= LOW_DISK:
            continue
        is_full = free < FULL_DISK
        yield Finding(
            name="disk-full" if is_full else "disk-nearly-full",
            severity=Severity.ERROR if is_full else Severity.WARNING,
            problem=f"{format_bytes(free)} of {format_bytes(total)} are free where caches are kept"
            + (": downloads and compilations fail." if is_full else "."),
            evidence=tuple(f"{space.purpose}: {space.path}" for space in spaces),
            fix="make room, or move the caches with TORCH_HOME, HF_HOME, PIP_CACHE_DIR, "
            "TRITON_CACHE_DIR and TMPDIR",
            commands=tuple(_emptying(spaces)),
        )


def _emptying(spaces: list[Space]) -> Iterator[str]:
    for space in spaces:
        if space.purpose.startswith("pip"):
            yield "pip cache purge"
        elif space.purpose.startswith("Hugging"):
            yield "hf cache prune"


def closed_caches(facts: Facts) -> Iterator[Finding]:
    """Caches that this user may not write to."""
    closed = [space for space in facts.host.caches if space.writable is False]
    if not closed:
        return
    yield Finding(
        name="cache-not-writable",
        severity=Severity.WARNING,
        problem="Caches cannot be written to: downloads and compilations fail, or are done again "
        "each time.",
        evidence=tuple(f"{space.purpose}: {space.path}" for space in closed),
        fix="give the folders to this user, or point TORCH_HOME, HF_HOME, PIP_CACHE_DIR, "
        "TRITON_CACHE_DIR and TMPDIR to ones that are theirs",
        commands=tuple(f'sudo chown -R "$USER" {space.path}' for space in closed),
    )


def open_files(facts: Facts) -> Iterator[Finding]:
    """A limit so low that data loaders run into it."""
    limit = facts.host.open_files_limit
    if limit is None or limit >= FEW_OPEN_FILES:
        return
    yield Finding(
        name="open-files-limit-low",
        severity=Severity.WARNING,
        problem=f"A process may open {limit} files: data loaders with workers fail with "
        "'received 0 items of ancdata'.",
        fix="raise the limit in the shell that starts the training",
        commands=("ulimit -n 65536",),
        source="https://docs.pytorch.org/docs/stable/multiprocessing.html, file_descriptor",
    )


RULES: Final[tuple[Rule, ...]] = (shared_memory, disks, closed_caches, open_files)
