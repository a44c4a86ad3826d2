"""The device below the allocator: getting segments and pages, and giving them back.

Source: ``alloc_block``, ``release_*``, ``garbage_collect_cached_blocks``, ``map_block`` and
``unmap_block`` in ``c10/cuda/CUDACachingAllocator.cpp`` of pytorch/pytorch.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

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

if TYPE_CHECKING:
    from torchgauge.estimate.memory.allocator.caching import CachingAllocator

UNKNOWN_DEVICE_BYTES: Final = 1 << 40
"""Memory that sizes the address ranges of expandable segments when no device is given."""


class SimulatedDevice:
    """Hands out addresses: rising, and never the same one again."""

    __slots__ = ("next_address", "total_bytes")

    def __init__(self, capacity_bytes: int | None) -> None:
        self.total_bytes = UNKNOWN_DEVICE_BYTES if capacity_bytes is None else capacity_bytes
        self.next_address = 2 * MIB

    def take(self, size: int) -> int:
        """Return the start of ``size`` new addresses."""
        address = self.next_address
        self.next_address = address + size
        return address


def get_memory(allocator: CachingAllocator, pool: Pool, size: int, segment: int) -> Block | None:
    """Return a new free block of at least ``size``, in no list, or ``None`` (``alloc_block``)."""
    reserved = allocator.reserved_bytes
    if allocator.allowed_bytes is not None and reserved + segment > allocator.allowed_bytes:
        return None
    capacity = allocator.capacity_bytes
    if allocator.settings.expandable_segments:
        # More than the device holds cannot be mapped, and is not worth a range of addresses.
        if capacity is not None and size > capacity:
            return None
        return _grow_expandable(allocator, pool, size)
    if capacity is not None and reserved + segment > capacity:
        return None
    allocator.reserved_bytes = reserved + segment
    allocator.segments += 1
    allocator.peak_segments = max(allocator.peak_segments, allocator.segments)
    return Block(pool, allocator.device.take(segment), segment, None, FREE)


def release_oversize(allocator: CachingAllocator, pool: Pool, size: int) -> bool:
    """Release just enough blocks that are too large to be split.

    Returns whether that freed the size of the request (``release_available_cached_blocks``).
    Expandable segments are left alone (pytorch PR 134338, in torch 2.5 and newer).
    """
    limit = allocator.settings.max_split_bytes
    if limit is None or allocator.settings.expandable_segments:
        return False
    wanted = max(size, limit)
    index = bisect_left(pool.keys, wanted << ORDER_BITS)
    if index < len(pool.keys):
        release_segment(allocator, pool.blocks[pool.keys[index]])
        return True
    released = 0
    for block in reversed(pool.free_blocks()):
        if released >= wanted or block.size < limit:
            break
        released += block.size
        release_segment(allocator, block)
    return released >= wanted


def collect_garbage(allocator: CachingAllocator) -> None:
    """Release the large blocks that were idle longest (``garbage_collect_cached_blocks``)."""
    assert allocator.allowed_bytes is not None
    threshold = int(allocator.settings.garbage_collection_threshold * allocator.allowed_bytes)
    excess = allocator.reserved_bytes - threshold
    if excess <= 0:
        return
    idle = [
        block
        for pool in allocator.pools()
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
                release_segment(allocator, block)
        if not old:
            break
        idle = [block for block in idle if block not in old]


def _age(block: Block) -> int:
    return block.pool.calls[0] - block.gc_base


def release_segment(allocator: CachingAllocator, block: Block) -> None:
    """Give a wholly free segment back to the device (``release_block``)."""
    block.pool.remove(block)
    allocator.reserved_bytes -= block.size
    allocator.segments -= 1


def release_free_blocks(allocator: CachingAllocator) -> None:
    """Release unsplit segments and unmap the empty pages of others (``release_blocks``)."""
    for pool in allocator.pools():
        for block in pool.free_blocks():
            if block.segment is not None:
                _unmap(allocator, block)
            elif not block.is_split():
                release_segment(allocator, block)


# -- expandable segments -------------------------------------------------------------------


def _grow_expandable(allocator: CachingAllocator, pool: Pool, size: int) -> Block | None:
    """Map pages until some free block reaches ``size`` (``try_allocate_expandable_block``)."""
    block = _find_address_space(allocator, pool, size)
    if block.state == UNMAPPED and not _map(allocator, block, min(block.size, size)):
        return None
    while block.size < size:
        after = block.next
        assert after is not None and after.state == UNMAPPED
        if not _map(allocator, after, min(size - block.size, after.size)):
            return None
        # The newly mapped block absorbed the free one before it.
        block = after
    pool.remove(block)
    return block


def _find_address_space(allocator: CachingAllocator, pool: Pool, size: int) -> Block:
    """Return the lowest free or unmapped block that starts enough room."""
    for _, block in pool.unmapped:
        before = block.prev
        first = before if before is not None and before.state == FREE else block
        if _has_room(first, size):
            return first
    page = SMALL_SEGMENT if pool.small else allocator.settings.large_segment_bytes
    total = allocator.device.total_bytes
    # A replay without a capacity may ask for more than the device has.
    span = -(-max(total + total // 8, size) // page) * page
    segment = ExpandableSegment(allocator.device.take(span), span, page)
    block = Block(pool, segment.address, span, segment, UNMAPPED)
    pool.add_unmapped(block)
    return block


def _has_room(block: Block | None, size: int) -> bool:
    room = 0
    while room < size and block is not None and block.state in (FREE, UNMAPPED):
        room += block.size
        block = block.next
    return room >= size


def _map(allocator: CachingAllocator, block: Block, size: int) -> bool:
    """Put pages behind the start of an unmapped block; the block is then free (``map_block``)."""
    segment, pool = block.segment, block.pool
    assert segment is not None
    mapped = -(-size // segment.page) * segment.page
    capacity = allocator.capacity_bytes
    if capacity is not None and allocator.reserved_bytes + mapped > capacity:
        return False
    pool.remove_unmapped(block)
    if mapped < block.size:
        pool.add_unmapped(cut_back(block, block.size - mapped))
    block.state = FREE
    merge(block, block.prev)
    merge(block, block.next)
    pool.add(block)
    allocator.reserved_bytes += mapped
    return True


def _unmap(allocator: CachingAllocator, block: Block) -> None:
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
    allocator.reserved_bytes -= end - start
    if not block.is_split():
        assert block.size == segment.size
        pool.remove_unmapped(block)
