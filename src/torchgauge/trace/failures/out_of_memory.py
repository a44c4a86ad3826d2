"""A failed allocation is an answer: how much was asked for, and how much was left."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from torchgauge.trace.failures.missing_data import causes
from torchgauge.units import format_bytes, parse_bytes

_MARKS = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")
_ASKED = (
    r"tried to allocate (\d+) bytes",  # c10/core/impl/alloc_cpu.cpp
    r"Tried to allocate ([\d.]+ [KMGT]iB)",  # c10/cuda/CUDACachingAllocator.cpp
)


class RealRunStopped(MemoryError):
    """A real run was ended while there was memory left, before the system would have ended all."""

    def __init__(self, held_bytes: int) -> None:
        super().__init__(
            f"the real run was stopped at {format_bytes(held_bytes)}, before this machine would be "
            "out of memory"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one that led to it, is a failed allocation."""
    return any(
        isinstance(link, (MemoryError, torch.OutOfMemoryError))
        or (isinstance(link, RuntimeError) and any(mark in str(link) for mark in _MARKS))
        for link in causes(error)
    )


def requested_bytes(error: BaseException) -> int | None:
    """Return how much a failed allocation had asked for, ``None`` where nothing says so."""
    for link in causes(error):
        for pattern in _ASKED:
            if match := re.search(pattern, str(link)):
                return parse_bytes(match[1])
    return None


def free_bytes(device: torch.device) -> int | None:
    """Return how much this process could still allocate, ``None`` where that is unknown.

    On the CPU the smaller of what the system has available and what the process's own limit on
    its address space leaves.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    known = [size for size in (_available(), _below_limit()) if size is not None]
    return min(known, default=None)


def _available() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    match = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return int(match[1]) * 1024 if match else None


def _below_limit() -> int | None:
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError, ValueError):
        return None
    if limit == resource.RLIM_INFINITY:
        return None
    return max(0, limit - pages * resource.getpagesize())
