"""Room and limits: shared memory, disks, open files."""

from __future__ import annotations

import math
import shlex
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


def no_shared_memory(facts: Facts) -> Iterator[Finding]:
    """None at all, or none that may be written: not even a lock between processes can be made."""
    space = facts.host.shared_memory
    if space is None or (space.exists and space.writable is not False):
        return
    command = _MORE_SHARED_MEMORY.get(
        facts.host.container or "", "sudo mount -t tmpfs -o size=8G,mode=1777 tmpfs /dev/shm"
    )
    yield Finding(
        name="shared-memory-missing",
        severity=Severity.WARNING,
        problem="Data loaders with workers cannot start: "
        + ("/dev/shm cannot be written to." if space.exists else "there is no /dev/shm."),
        evidence=("mounted read-only",) if space.read_only else (),
        fix="mount it, with 1 GiB or more, or load data with num_workers=0",
        commands=(command,),
        source="sem_overview(7): /dev/shm; seen with torch 2.13: FileNotFoundError in SemLock",
    )


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
    is_read_only = all(space.read_only for space in closed)
    yield Finding(
        name="cache-not-writable",
        severity=Severity.WARNING,
        problem="Caches cannot be written to: downloads and compilations fail, or are done again "
        "each time.",
        evidence=tuple(
            f"{space.purpose}: {space.path}" + (", read-only" if space.read_only else "")
            for space in closed
        ),
        fix=("" if is_read_only else "give the folders to this user, or ")
        + "point TORCH_HOME, HF_HOME, PIP_CACHE_DIR, TRITON_CACHE_DIR and TMPDIR to others that "
        "can be written to",
        commands=tuple(
            command for space in closed for command in _opening(space, _elsewhere(facts))
        ),
    )


_MOVED: Final = {
    "torch": "TORCH_HOME", "Hugging": "HF_HOME", "pip": "PIP_CACHE_DIR",
    "compiled": "TRITON_CACHE_DIR", "temporary": "TMPDIR",
}  # fmt: skip
"""What a purpose begins with, and the variable that moves that folder."""


def _elsewhere(facts: Facts) -> str | None:
    """Return a folder that can be written to: the one for temporary files, or shared memory."""
    temporary = (space for space in facts.host.caches if space.purpose.startswith("temporary"))
    folders = (*temporary, facts.host.shared_memory)
    return next((space.path for space in folders if space and space.writable), None)


def _opening(space: Space, elsewhere: str | None) -> Iterator[str]:
    """Yield the command that makes a cache writable, or moves it off a read-only file system."""
    path = shlex.quote(space.path)
    if not space.read_only:
        yield (
            f'sudo chown -R "$(id -un)" {path}'
            if space.exists
            else (f'sudo install -d -o "$(id -un)" {path}')
        )
    elif elsewhere:
        name = next(name for start, name in _MOVED.items() if space.purpose.startswith(start))
        folder = elsewhere if name == "TMPDIR" else f"{elsewhere}/{name.lower()}"
        yield f"export {name}={shlex.quote(folder)}"


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


def threads(facts: Facts) -> Iterator[Finding]:
    """More threads than a control group has CPU time for."""
    limit, count = facts.host.cpu_limit, facts.torch.threads
    if limit is None or count is None or count <= math.ceil(limit):
        return
    fitting = max(1, int(limit))
    yield Finding(
        name="threads-exceed-cpu-limit",
        severity=Severity.WARNING,
        problem=f"torch computes with {count} threads on the CPU, and the time of {limit:g} CPUs "
        "is all that this container or job may use: the threads wait for each other.",
        evidence=(f"{facts.host.cpus} CPUs are seen; the limit is one of time (cgroup cpu.max)",),
        fix="let it start as many threads as there are CPUs",
        commands=(f"export OMP_NUM_THREADS={fitting}",),
        source="llvm/llvm-project issue 225493: OpenMP does not see CPU quotas",
    )


RULES: Final[tuple[Rule, ...]] = (
    no_shared_memory,
    shared_memory,
    disks,
    closed_caches,
    open_files,
    threads,
)
