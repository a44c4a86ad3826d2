"""Bring the C library's allocator to the state that it has in a process that ran for a while.

glibc maps blocks above a threshold from the system one by one, which costs a fault per page in
every step. The threshold begins at 128 KiB and rises to the size of the largest such block that was
freed, up to 32 MiB (``M_MMAP_THRESHOLD`` in ``mallopt(3)``), and with it what the heap may keep: a
first model would be timed with many more faults than a second one after it. Elsewhere this does
nothing.
"""

from __future__ import annotations

import sys

import torch

if sys.platform != "win32":
    import resource

_NEARLY_32_MIB = 32 * 2**20 - 64 * 2**10


def settle_allocator() -> None:
    """Take a block of nearly 32 MiB and free it."""
    torch.empty(_NEARLY_32_MIB, dtype=torch.uint8)


def page_faults() -> int:
    """Return how many pages this process has been given so far; 0 where nobody counts them."""
    if sys.platform == "win32":
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
