"""cuBLAS workspaces: from the caching allocator, one per handle and stream, kept for good.

Data: a row per torch release that changed a rule, and the functions that look them up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from torchgauge.estimate.memory.allocator.keys import Version, rules_of
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import Phase, Trace

KIB: Final = 1024
MIB: Final = 1024 * KIB
ComputeCapability = tuple[int, int]

DEFAULT_WORKSPACE_CONFIG: Final = ":4096:2:16:8"
"""cuBLAS' own recommendation for GPUs up to Ampere and Ada; 2 × 4096 KiB + 8 × 16 KiB."""

LARGE_WORKSPACE_BYTES: Final = 32 * MIB
"""cuBLAS' recommendation for Hopper; ``CublasHandlePool.cpp``."""


class CublasRules(NamedTuple):
    """How cuBLAS workspaces are sized, from a torch release on."""

    version: Version
    large_for: tuple[ComputeCapability | int, ...]
    """Compute capabilities, or whole majors, that get :data:`LARGE_WORKSPACE_BYTES`."""
    source: str


CUBLAS_RULES: Final = (
    CublasRules((2, 6), ((9, 0),),
        "aten/src/ATen/cuda/CublasHandlePool.cpp; machine code of libtorch_cuda.so 2.10.0, 2.11.0"),
    CublasRules((2, 12), (9, 10, 12),
        "pytorch PR 175344 (2026-02); machine code of libtorch_cuda.so 2.12.0 and 2.13.0"),
)  # fmt: skip
"""Rows in the order of the releases; each holds until the next one."""


def cublas_rules(torch_release: str) -> CublasRules:
    """Return the rules of a torch release; newer ones than the last row follow that row."""
    version = rules_of(torch_release).version
    return [rules for rules in CUBLAS_RULES if rules.version <= version][-1]


def cublas_workspace_bytes(
    torch_release: str, compute_capability: ComputeCapability, config: str | None = None
) -> int:
    """Return the bytes of one cuBLAS workspace; there is one per handle and stream.

    ``config`` is the text of ``CUBLAS_WORKSPACE_CONFIG``: ``:SIZE:COUNT`` once or more with the
    size in KiB, ``:0:0`` for none. Text without such a pair is ignored, as torch does.

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


_MATRIX_PRODUCTS: Final = frozenset(
    f"aten.{name}.default" for name in ("mm", "addmm", "bmm", "baddbmm", "addmv", "mv", "addbmm")
)
"""Operators that call cuBLAS."""


def kept_workspaces(trace: Trace, platform: Platform) -> Mapping[int, int]:
    """Return the workspace of each cuBLAS handle by the op that makes it.

    Handles belong to threads, and the backward of a device has a thread of its own.
    """
    size = cublas_workspace_bytes(platform.torch_release, platform.compute_capability)
    first: dict[bool, int] = {}
    for op in trace.ops:
        if op.name in _MATRIX_PRODUCTS:
            first.setdefault(op.phase is Phase.BACKWARD, op.index)
            if len(first) == 2:
                break
    return dict.fromkeys(first.values(), size)
