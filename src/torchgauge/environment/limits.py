"""How much memory and how many CPUs a process here may use: the machine's, and its control group's.

Sources: Linux' documentation of control groups, version 1 (``memory.limit_in_bytes``,
``cpu.cfs_quota_us``) and version 2 (``memory.max``, ``cpu.max``); proc(5), ``/proc/meminfo``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from torchgauge.environment.surroundings import Surroundings

_MOUNTS: Final = {
    "": "/sys/fs/cgroup",
    "memory": "/sys/fs/cgroup/memory",
    "cpu": "/sys/fs/cgroup/cpu",
}
"""Where each controller's groups are; version 2 has one tree, whose controller has no name."""
_NO_LIMIT: Final = 1 << 60
"""Version 1 writes a number about as large as an address for no limit."""


def memory_of(surroundings: Surroundings) -> tuple[int | None, int | None]:
    """Return the machine's memory and how much of it is available, in bytes."""
    text = surroundings.read("/proc/meminfo") or ""
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s*(\d+) kB$", text, re.MULTILINE))
    total, available = found.get("MemTotal"), found.get("MemAvailable")
    return (int(total) << 10 if total else None, int(available) << 10 if available else None)


def memory_limit_of(surroundings: Surroundings) -> int | None:
    """Return the most bytes that the control group may hold, ``None`` for no limit."""
    texts = (
        *_values(surroundings, "", "memory.max"),
        *_values(surroundings, "memory", "memory.limit_in_bytes"),
    )
    limits = [int(text) for text in texts if text.isdigit() and int(text) < _NO_LIMIT]
    return min(limits, default=None)


def cpu_limit_of(surroundings: Surroundings) -> float | None:
    """Return how many CPUs' time the control group may use, ``None`` for no limit."""
    pairs = [text.split() for text in _values(surroundings, "", "cpu.max")]
    pairs += [
        [quota, period]
        for quota, period in zip(
            _values(surroundings, "cpu", "cpu.cfs_quota_us"),
            _values(surroundings, "cpu", "cpu.cfs_period_us"),
            strict=False,
        )
    ]
    limits = [
        int(pair[0]) / int(pair[1])
        for pair in pairs
        if len(pair) == 2 and all(word.isdigit() for word in pair) and int(pair[1])
    ]
    return min(limits, default=None)


def cpus_here() -> int | None:
    """Return how many CPUs the scheduler may put this process on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _values(surroundings: Surroundings, controller: str, file: str) -> Iterator[str]:
    """Yield a file of the process's group and of every group above it: each of them limits."""
    path = PurePosixPath(_group(surroundings, controller))
    for group in (path, *path.parents):
        text = surroundings.read(f"{_MOUNTS[controller]}{group}/{file}".replace("//", "/"))
        if text is not None:
            yield text.strip()


def _group(surroundings: Surroundings, controller: str) -> str:
    """Return the process's group; a container that sees its own tree alone is at its root."""
    for line in (surroundings.read("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controller in controllers.split(",") and path.startswith("/"):
            return path
    return "/"
