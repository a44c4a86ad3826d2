"""A model of PyTorch's CUDA caching allocator: what a sequence of allocations reserves.

>>> events = [(False, "weight", 3 << 20), (False, "output", 5 << 20), (True, "output", 5 << 20)]
>>> result = replay(events)
>>> result.peak_allocated_bytes >> 20, result.peak_reserved_bytes >> 20
(8, 20)
>>> smallest_cap(events) >> 20
20
"""

from torchgauge.estimate.memory.allocator.blocks import Block
from torchgauge.estimate.memory.allocator.caching import CachingAllocator
from torchgauge.estimate.memory.allocator.replay import (
    EMPTY_CACHE,
    AllocatorResult,
    MemoryEvent,
    OutOfMemory,
    replay,
    smallest_cap,
)
from torchgauge.estimate.memory.allocator.settings import AllocatorSettings

__all__ = [
    "EMPTY_CACHE",
    "AllocatorResult",
    "AllocatorSettings",
    "Block",
    "CachingAllocator",
    "MemoryEvent",
    "OutOfMemory",
    "replay",
    "smallest_cap",
]
