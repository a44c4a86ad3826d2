"""The CUDA context: device memory that a torch process holds outside the caching allocator.

It holds the driver's state, loaded kernels and the local memory of the resident threads.
``nvidia-smi`` shows it, ``torch.cuda.memory_reserved`` does not. ``cuda_contexts.csv`` has the
public figures, with a source per row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from torchgauge.devices.tables import rows
from torchgauge.errors import UsageError

MIB: Final = 1 << 20
ComputeCapability = tuple[int, int]

THREADS_PER_SM: Final[dict[ComputeCapability, int]] = {
    (3, 0): 2048,
    (5, 0): 2048,
    (6, 0): 2048,
    (7, 0): 2048,
    (7, 5): 1024,
    (8, 0): 2048,
    (8, 6): 1536,
    (9, 0): 2048,
    (10, 0): 2048,
    (12, 0): 1536,
}
"""Resident threads per multiprocessor, from that compute capability on.

Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
"""

STACK_BYTES: Final = 1024
"""Local memory that the context keeps per resident thread: the default of
``cudaLimitStackSize`` (CUDA runtime API, ``cudaDeviceGetLimit``)."""


class ContextRow(NamedTuple):
    """One public figure; ``cuda_contexts.csv`` says what the columns mean."""

    device: str
    compute_capability: ComputeCapability
    sm_count: int
    mib: float
    after_work: bool
    date: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextEstimate:
    """What a process holds on the device outside the allocator, with an interval."""

    nbytes: int
    low_bytes: int
    high_bytes: int
    measured: bool
    """Whether public figures of this very GPU exist; otherwise it is interpolated."""


@cache
def context_rows() -> tuple[ContextRow, ...]:
    """Return the public figures."""
    return tuple(
        ContextRow(
            device=row["device"],
            compute_capability=_capability(row["compute_capability"]),
            sm_count=int(row["sm_count"]),
            mib=float(row["mib"]),
            after_work=row["after_work"] == "yes",
            date=row["date"],
            source=row["source"],
        )
        for row in rows(Path(__file__).with_name("cuda_contexts.csv"))
    )


def _capability(text: str) -> ComputeCapability:
    major, minor = text.split(".")
    return int(major), int(minor)


def cuda_context_bytes(
    *,
    compute_capability: ComputeCapability,
    sm_count: int,
    device: str = "",
    figures: tuple[ContextRow, ...] | None = None,
) -> ContextEstimate:
    """Return what a torch process holds on a GPU outside the caching allocator.

    A GPU with public figures gets their mean, others the least-squares line through all
    ``figures``: the context grows with the local memory of all threads that the GPU can hold. The
    interval is the worst miss of that line on any row, or the range of the GPU's own figures where
    there are at least three. The figures do not tell torch or CUDA releases apart.

    With each GPU left out in turn, the line through the others misses its figures by 37 MiB in
    the median and 99 MiB at worst.

    Assumes: one context, default stack size, kernels loaded lazily, no NCCL.
    """
    figures = context_rows() if figures is None else figures
    own = [row.mib for row in figures if _is_of(row, device, sm_count)]
    size, worst_miss = _line(figures, _resident_mib(compute_capability, sm_count))
    mib = sum(own) / len(own) if own else size
    low, high = mib - worst_miss, mib + worst_miss
    # Different programs load different kernels: one or two figures do not bound the others.
    if len(own) > 2:
        low, high = min(own), max(own)
    return ContextEstimate(
        nbytes=round(mib * MIB),
        low_bytes=max(round(low * MIB), 0),
        high_bytes=round(high * MIB),
        measured=bool(own),
    )


def _is_of(row: ContextRow, device: str, sm_count: int) -> bool:
    # "NVIDIA L4" is not the start of an L40's name, and a laptop's GPU has fewer processors.
    return row.sm_count == sm_count and bool(
        re.match(re.escape(row.device) + r"(?![0-9A-Za-z])", device)
    )


def _line(figures: tuple[ContextRow, ...], resident_mib: float) -> tuple[float, float]:
    """Return the least-squares line at a place, and its worst miss of a figure."""
    points = [(_resident_mib(r.compute_capability, r.sm_count), r.mib) for r in figures]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum(
        (x - mean_x) ** 2 for x, _ in points
    )
    offset = mean_y - slope * mean_x
    worst = max(abs(y - offset - slope * x) for x, y in points)
    return offset + slope * resident_mib, worst


def _resident_mib(compute_capability: ComputeCapability, sm_count: int) -> float:
    """Return the local memory of all resident threads at the default stack size, in MiB."""
    known = [key for key in THREADS_PER_SM if key <= compute_capability]
    if not known or sm_count < 1:
        raise UsageError(
            f"no CUDA context is known for compute capability {compute_capability} with "
            f"{sm_count} multiprocessors",
            hint="(3, 0) and newer, one multiprocessor or more",
        )
    return THREADS_PER_SM[max(known)] * sm_count * STACK_BYTES / MIB
