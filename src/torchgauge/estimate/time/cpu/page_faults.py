"""Memory that the C library takes from the system anew in every step: its pages are faulted in.

The first touch of a page costs the kernel about a microsecond, which for a large tensor is as long
as the operator itself. glibc's ``malloc`` maps each block of 32 MiB and more separately, and unmaps
it when it is freed; smaller ones come from the heap, which keeps what it was given.

Source: glibc 2.36, ``malloc/malloc.c``: ``sysmalloc``, ``DEFAULT_MMAP_THRESHOLD_MAX``; the
threshold is dynamic (``M_MMAP_THRESHOLD`` in ``mallopt(3)``).

Assumes: a process that has freed a block of nearly 32 MiB before, after which the threshold is that
(``torchgauge measure`` does so), and whose heap is not trimmed within a step.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from torchgauge.estimate.memory.loop import repeat
from torchgauge.estimate.memory.workspaces import Platform, workspaces_for
from torchgauge.facts.trace import Trace

PAGE: Final = 4096
"""Bytes."""
MAPPED_FROM: Final = 32 * 2**20
"""Bytes of the smallest block that is mapped separately."""


def faulted_bytes(trace: Trace, threads: int) -> dict[int, int]:
    """Return by operator the bytes that it is the first to touch, in a step after the first."""
    loop = repeat(trace, 2, workspaces_for(Platform(type="cpu", threads=threads)))
    found: defaultdict[int, int] = defaultdict(int)
    for index in range(loop.starts[-1], len(loop.events)):
        is_free, _, nbytes = loop.events[index]
        if not is_free and nbytes >= MAPPED_FROM and loop.origins[index] >= 0:
            found[loop.origins[index]] += nbytes
    return dict(found)
