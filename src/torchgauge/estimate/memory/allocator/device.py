"""The device below the allocator: getting segments and pages, and giving them back.

Source: ``alloc_block``, ``release_*``, ``garbage_collect_cached_blocks``, ``map_block`` and
``unmap_block`` in ``c10/cuda/CUDACachingAllocator.cpp`` of pytorch/pytorch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from torchgauge.estimate.memory.allocator.blocks import (
    FREE,
    MIB,
    ORDER_BITS,
    SMALL_SEGMENT,
    UNMAPPED,
    Block,
    ExpandableSegment,
    Pool,
    cut_back,
    cut_front,
    merge,
)
from torchgauge.estimate.memory.allocator.settings import AllocatorSettings

UNKNOWN_DEVICE_BYTES: Final = 1 << 40
"""Memory that sizes the address ranges of expandable segments when no device is given."""


class DeviceMemory:
    """What one allocator holds of a device: segments, pages and the pools of their free blocks."""

    def __init__(
        self, settings: AllocatorSettings, capacity_bytes: int | None, allowed_bytes: int | None
    ) -> None:
        self.settings = settings
        self.capacity_bytes = capacity_bytes
        self.allowed_bytes = allowed_bytes
        self.small: dict[int, Pool] = {}
        self.large: dict[int, Pool] = {}
        self.reserved_bytes = self.peak_reserved_bytes = 0
        self.segments = self.peak_segments = 0
        """Segments from ``cudaMalloc``; torch does not count expandable ones."""
        self._next_address = 2 * MIB

    def pools(self) -> Iterator[Pool]:
        """Yield the pools, large before small, by stream: the order they are released in."""
        for pools in (self.large, self.small):
            for stream in sorted(pools):
                yield pools[stream]

    def new_addresses(self, size: int) -> int:
        """Return the start of ``size`` new addresses: rising, and never the same ones again."""
        address = self._next_address
        self._next_address = address + size
        return address


def get_memory(memory: DeviceMemory, pool: Pool, size: int, segment: int) -> Block | None:
    """Return a new free block of at least ``size``, in no list, or ``None`` (``alloc_block``)."""
    reserved = memory.reserved_bytes
    if memory.allowed_bytes is not None and reserved + segment > memory.allowed_bytes:
        return None
    capacity = memory.capacity_bytes
    if memory.settings.expandable_segments:
        # More than the device holds cannot be mapped, and is not worth a range of addresses.
        if capacity is not None and size > capacity:
            return None
        return _grow_expandable(memory, pool, size)
    if capacity is not None and reserved + segment > capacity:
        return None
    memory.reserved_bytes = reserved + segment
    memory.segments += 1
    memory.peak_segments = max(memory.peak_segments, memory.segments)
    return Block(pool, memory.new_addresses(segment), segment, None, FREE)


def release_oversize(memory: DeviceMemory, pool: Pool, size: int) -> bool:
    """Release just enough blocks that are too large to be split.

    Returns whether that freed the size of the request (``release_available_cached_blocks``).
    Expandable segments are left alone (pytorch PR 134338, in torch 2.5 and newer).
    """
    limit = memory.settings.max_split_bytes
    if limit is None or memory.settings.expandable_segments:
        return False
    wanted = max(size, limit)
    index = bisect_left(pool.keys, wanted << ORDER_BITS)
    if index < len(pool.keys):
        release_segment(memory, pool.blocks[pool.keys[index]])
        return True
    released = 0
    for block in reversed(pool.free_blocks()):
        if released >= wanted or block.size < limit:
            break
        released += block.size
        release_segment(memory, block)
    return released >= wanted


def collect_garbage(memory: DeviceMemory) -> None:
    """Release the large blocks that were idle longest (``garbage_collect_cached_blocks``)."""
    assert memory.allowed_bytes is not None
    threshold = int(memory.settings.garbage_collection_threshold * memory.allowed_bytes)
    excess = memory.reserved_bytes - threshold
    if excess <= 0:
        return
    idle = [
        block
        for pool in memory.pools()
        if not pool.small
        for block in pool.free_blocks()
        if block.segment is None and not block.is_split()
    ]
    total_age = sum(_age(block) for block in idle)
    while excess > 0 and idle:
        mean_age = total_age / len(idle)
        old: list[Block] = []
        for block in idle:
            # The oldest go first, and all of them, even past the excess.
            if _age(block) >= mean_age:
                old.append(block)
                excess -= block.size
                total_age -= _age(block)
                release_segment(memory, block)
        if not old:
            break
        idle = [block for block in idle if block not in old]


def _age(block: Block) -> int:
    return block.pool.calls[0] - block.gc_base


def release_segment(memory: DeviceMemory, block: Block) -> None:
    """Give a wholly free segment back to the device (``release_block``)."""
    block.pool.remove(block)
    memory.reserved_bytes -= block.size
    memory.segments -= 1


def release_free_blocks(memory: DeviceMemory) -> None:
    """Release unsplit segments and unmap the empty pages of others (``release_blocks``)."""
    for pool in memory.pools():
        for block in pool.free_blocks():
            if block.segment is not None:
                _unmap(memory, block)
            elif not block.is_split():
                release_segment(memory, block)


# -- expandable segments -------------------------------------------------------------------


def _grow_expandable(memory: DeviceMemory, pool: Pool, size: int) -> Block | None:
    """Map pages until some free block reaches ``size`` (``try_allocate_expandable_block``)."""
    block = _find_address_space(memory, pool, size)
    if block.state == UNMAPPED and not _map(memory, block, min(block.size, size)):
        return None
    while block.size < size:
        after = block.next
        assert after is not None and after.state == UNMAPPED
        if not _map(memory, after, min(size - block.size, after.size)):
            return None
        # The newly mapped block absorbed the free one before it.
        block = after
    pool.remove(block)
    return block


def _find_address_space(memory: DeviceMemory, pool: Pool, size: int) -> Block:
    """Return the lowest free or unmapped block that starts enough room."""
    for _, block in pool.unmapped:
        before = block.prev
        first = before if before is not None and before.state == FREE else block
        if _has_room(first, size):
            return first
    page = SMALL_SEGMENT if pool.small else memory.settings.large_segment_bytes
    capacity = memory.capacity_bytes
    total = UNKNOWN_DEVICE_BYTES if capacity is None else capacity
    # A replay without a capacity may ask for more than the device has.
    span = -(-max(total + total // 8, size) // page) * page
    segment = ExpandableSegment(memory.new_addresses(span), span, page)
    block = Block(pool, segment.address, span, segment, UNMAPPED)
    pool.add_unmapped(block)
    return block


def _has_room(block: Block | None, size: int) -> bool:
    room = 0
    while room < size and block is not None and block.state in (FREE, UNMAPPED):
        room += block.size
        block = block.next
    return room >= size


def _map(memory: DeviceMemory, block: Block, size: int) -> bool:
    """Put pages behind the start of an unmapped block; the block is then free (``map_block``)."""
    segment, pool = block.segment, block.pool
    assert segment is not None
    mapped = -(-size // segment.page) * segment.page
    capacity = memory.capacity_bytes
    if capacity is not None and memory.reserved_bytes + mapped > capacity:
        return False
    pool.remove_unmapped(block)
    if mapped < block.size:
        pool.add_unmapped(cut_back(block, block.size - mapped))
    block.state = FREE
    merge(block, block.prev)
    merge(block, block.next)
    pool.add(block)
    memory.reserved_bytes += mapped
    return True


def _unmap(memory: DeviceMemory, block: Block) -> None:
    """Take away the pages that lie wholly in a free block (``unmap_block``)."""
    segment, pool = block.segment, block.pool
    assert segment is not None
    page = segment.page
    start = segment.address - (segment.address - block.address) // page * page
    end = segment.address + (block.address + block.size - segment.address) // page * page
    if start >= end:
        return
    pool.remove(block)
    if start > block.address:
        pool.add(cut_front(block, start - block.address))
    if block.size > end - start:
        pool.add(cut_back(block, block.size - (end - start)))
    block.state = UNMAPPED
    merge(block, block.prev)
    merge(block, block.next)
    pool.add_unmapped(block)
    memory.reserved_bytes -= end - start
    if not block.is_split():
        assert block.size == segment.size
        pool.remove_unmapped(block)
