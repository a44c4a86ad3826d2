"""Which GPUs run the same kernels: those of one family give the same trace."""

from __future__ import annotations

from bisect import bisect
from typing import Final

CPU_FAMILY: Final = "cpu"
_FIRST: Final = (
    (0, 0), (5, 0), (7, 0), (8, 0), (8, 6), (8, 9), (8, 10), (9, 0), (9, 1), (10, 0), (10, 1),
    (10, 3), (10, 4), (11, 0), (12, 0), (13, 0),
)  # fmt: skip
"""Compute capabilities at which a rule of ``trace/kernels`` begins or ends: which attention kernel
runs, how it aligns, and whether there are products in FP8."""


def kernel_family(compute_capability: tuple[int, int]) -> str:
    """Return the family of a GPU, named after the capability that it begins with.

    >>> kernel_family((8, 6)), kernel_family((8, 7)), kernel_family((9, 0))
    ('sm_86', 'sm_86', 'sm_90')
    """
    major, minor = _FIRST[bisect(_FIRST, compute_capability) - 1]
    return f"sm_{major}{minor}"


FAMILIES: Final = tuple(kernel_family(first) for first in _FIRST)


def capabilities_of(family: str) -> tuple[str, str]:
    """Return where the capabilities of a family begin, and where the next family begins.

    >>> capabilities_of("sm_70")
    ('7.0', '8.0')
    """
    place = FAMILIES.index(family)
    ends = [f"{major}.{minor}" for major, minor in (*_FIRST[place : place + 2], (99, 0))]
    return ends[0], ends[1]
