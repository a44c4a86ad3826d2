"""Device memory that no tensor of the model asks for: cuBLAS workspaces and the CUDA context.

Data: rows with source and date, and the few functions that look them up.

* A **workspace** comes from the caching allocator, one per cuBLAS handle and stream, and stays: it
  counts as allocated.
* The **context** (driver state, loaded kernels, local memory of the resident threads) is outside
  the allocator: ``nvidia-smi`` shows it, ``torch.cuda.memory_reserved`` does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from torchgauge.errors import UsageError
from torchgauge.estimate.memory.allocator.keys import Version, rules_of
from torchgauge.estimate.memory.cuda_context_rows import CONTEXT_ROWS, ComputeCapability, ContextRow

KIB: Final = 1024
MIB: Final = 1024 * KIB

# -- cuBLAS --------------------------------------------------------------------------------

DEFAULT_WORKSPACE_CONFIG: Final = ":4096:2:16:8"
"""cuBLAS' own recommendation for GPUs up to Ampere and Ada; 2 × 4096 KiB + 8 × 16 KiB."""

LARGE_WORKSPACE_BYTES: Final = 32 * MIB
"""cuBLAS' recommendation for Hopper; ``CublasHandlePool.cpp``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CublasRules:
    """How cuBLAS workspaces are sized, from a torch release on."""

    version: Version
    large_for: tuple[ComputeCapability | int, ...]
    """Compute capabilities, or whole majors, that get :data:`LARGE_WORKSPACE_BYTES`."""
    lt_shares: bool
    """Whether cuBLASLt uses cuBLAS' workspace instead of one of its own."""
    lt_stays: bool
    """Whether cuBLASLt's own workspace is kept, rather than allocated for each call."""
    source: str


CUBLAS_RULES: Final[tuple[CublasRules, ...]] = (
    CublasRules(
        version=(2, 6),
        large_for=((9, 0),),
        lt_shares=False,
        lt_stays=False,
        source="aten/src/ATen/cuda/CublasHandlePool.cpp and CUDABlas.cpp; pytorch PR 91564",
    ),
    CublasRules(
        version=(2, 9),
        large_for=((9, 0),),
        lt_shares=False,
        lt_stays=True,
        source="pytorch PR 156495 (2025-06); machine code of libtorch_cuda.so 2.10.0",
    ),
    CublasRules(
        version=(2, 11),
        large_for=((9, 0),),
        lt_shares=True,
        lt_stays=True,
        source="pytorch PR 168175 (2026-01); machine code of libtorch_cuda.so 2.11.0",
    ),
    CublasRules(
        version=(2, 12),
        large_for=(9, 10, 12),
        lt_shares=True,
        lt_stays=True,
        source="pytorch PR 175344 (2026-02); machine code of libtorch_cuda.so 2.12.0 and 2.13.0",
    ),
)
"""Rows in the order of the releases; each holds until the next one."""

LT_WORKSPACE_KIB: Final = 1024
"""cuBLASLt's own workspace; ``CUBLASLT_WORKSPACE_SIZE`` overrides it, in KiB (issue 73328)."""

HANDLES_FORWARD: Final = 1
HANDLES_TRAINING: Final = 2
"""Handles are per thread (``DeviceThreadHandlePool``), and autograd runs the backward of a device
in a thread of its own, so that a training step with a matrix product in both holds two
workspaces. Read in the source, not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LtWorkspace:
    """What cuBLASLt adds to the workspaces of cuBLAS."""

    nbytes: int
    """Bytes of its own; 0 where it shares cuBLAS' workspace."""
    stays: bool
    """Kept after the call; otherwise it lives for one call."""


def cublas_rules(torch_release: str) -> CublasRules:
    """Return the rules of a torch release; newer ones than the last row follow that row."""
    version = rules_of(torch_release).version
    return [rules for rules in CUBLAS_RULES if rules.version <= version][-1]


def cublas_workspace_bytes(
    torch_release: str, compute_capability: ComputeCapability, config: str | None = None
) -> int:
    """Return the bytes of one cuBLAS workspace; there is one per handle and stream.

    Args:
        torch_release: for example ``2.13``.
        compute_capability: of the GPU, as ``(8, 0)``.
        config: the text of ``CUBLAS_WORKSPACE_CONFIG``, ``:SIZE:COUNT`` once or more with the
            size in KiB; ``:0:0`` for none. Text without such a pair is ignored, as torch does.

    >>> cublas_workspace_bytes("2.13", (8, 0)), cublas_workspace_bytes("2.13", (9, 0))
    (8519680, 33554432)
    >>> cublas_workspace_bytes("2.13", (8, 0), ":4096:8")
    33554432
    """
    pairs = re.findall(r":([0-9]+):([0-9]+)", config or "")
    if pairs:
        return _sum_of(pairs)
    large = cublas_rules(torch_release).large_for
    if compute_capability in large or compute_capability[0] in large:
        return LARGE_WORKSPACE_BYTES
    return _sum_of(re.findall(r":([0-9]+):([0-9]+)", DEFAULT_WORKSPACE_CONFIG))


def _sum_of(pairs: list[tuple[str, str]]) -> int:
    return sum(int(size) * KIB * int(count) for size, count in pairs)


def cublaslt_workspace(
    torch_release: str, *, unified: str | None = None, size_kib: str | None = None
) -> LtWorkspace:
    """Return what cuBLASLt (``addmm`` with a bias, scaled products) needs beside cuBLAS.

    Args:
        torch_release: for example ``2.13``.
        unified: the text of ``TORCH_CUBLASLT_UNIFIED_WORKSPACE``, ``0`` or ``1`` (2.8 or newer).
        size_kib: the text of ``CUBLASLT_WORKSPACE_SIZE``.

    Raises:
        UsageError: for a size that is not a whole number.
    """
    rules = cublas_rules(torch_release)
    # torch reads the flag with check_env: "1" and "0"; anything else leaves the default.
    shares = {"1": True, "0": False}.get(unified or "", rules.lt_shares)
    if shares:
        return LtWorkspace(nbytes=0, stays=rules.lt_stays)
    kib = str(LT_WORKSPACE_KIB) if size_kib is None else size_kib
    if not kib.isdigit():
        raise UsageError(f"CUBLASLT_WORKSPACE_SIZE={kib} is no size in KiB", hint="write 1024")
    return LtWorkspace(nbytes=int(kib) * KIB, stays=rules.lt_stays)


# -- the context ---------------------------------------------------------------------------

THREADS_PER_SM: Final[dict[ComputeCapability, int]] = {
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextEstimate:
    """What a process holds on the device outside the allocator, with an interval."""

    nbytes: int
    low_bytes: int
    high_bytes: int
    measured: bool
    """Whether public figures of this very GPU were found; otherwise it is interpolated."""


def cuda_context_bytes(
    *, compute_capability: ComputeCapability, sm_count: int, device: str = ""
) -> ContextEstimate:
    """Return what a torch process holds on a GPU outside the caching allocator.

    A GPU of ``cuda_context_rows`` gets the mean of its figures, others the least-squares line
    through all rows: the context grows with the local memory of all threads that the GPU can
    hold. The interval is the worst miss of that line on any row, or the range of the GPU's own
    figures where there are at least three. The public figures do not tell torch or CUDA releases
    apart, so neither is asked for.

    With each GPU left out in turn, the line through the others misses its figures by 37 MiB in
    the median and 99 MiB at worst.

    Assumes: one context, default stack size, kernels loaded lazily, no NCCL.
    """
    line = _line()
    size = line.at(_resident_mib(compute_capability, sm_count))
    found = [row.mib for row in CONTEXT_ROWS if _is_of(row, device, sm_count)]
    mib = sum(found) / len(found) if found else size
    low, high = mib - line.worst_miss, mib + line.worst_miss
    # Different programs load different kernels: one or two figures do not bound the others.
    if len(found) > 2:
        low, high = min(found), max(found)
    return ContextEstimate(
        nbytes=round(mib * MIB),
        low_bytes=max(round(low * MIB), 0),
        high_bytes=round(high * MIB),
        measured=bool(found),
    )


def _is_of(row: ContextRow, device: str, sm_count: int) -> bool:
    # "NVIDIA L4" is not the start of an L40's name, and a laptop's GPU has fewer processors.
    return row.sm_count == sm_count and bool(
        re.match(re.escape(row.device) + r"(?![0-9A-Za-z])", device)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """Least squares through the rows."""

    offset: float
    slope: float
    worst_miss: float

    def at(self, resident_mib: float) -> float:
        return self.offset + self.slope * resident_mib


def _line() -> _Line:
    points = [(_resident_mib(r.compute_capability, r.sm_count), r.mib) for r in CONTEXT_ROWS]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum(
        (x - mean_x) ** 2 for x, _ in points
    )
    offset = mean_y - slope * mean_x
    worst = max(abs(y - offset - slope * x) for x, y in points)
    return _Line(offset=offset, slope=slope, worst_miss=worst)


def _resident_mib(compute_capability: ComputeCapability, sm_count: int) -> float:
    """Return the local memory of all resident threads at the default stack size, in MiB."""
    known = [key for key in THREADS_PER_SM if key <= compute_capability]
    if not known or sm_count < 1:
        raise UsageError(
            f"no CUDA context is known for compute capability {compute_capability} with "
            f"{sm_count} multiprocessors",
            hint="(5, 0) and newer, one multiprocessor or more",
        )
    return THREADS_PER_SM[max(known)] * sm_count * STACK_BYTES / MIB
