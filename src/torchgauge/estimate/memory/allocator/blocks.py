"""Blocks of device memory and the ordered pools that hold the free ones."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20

MIN_BLOCK: Final = 512
"""All sizes are multiples of it (``kMinBlockSize``)."""
SMALL_SIZE: Final = MIB
"""The largest request of the small pool (``kSmallSize``)."""
SMALL_SEGMENT: Final = 2 * MIB
"""The segment that small requests share (``kSmallBuffer``)."""
MIN_LARGE_ALLOC: Final = 10 * MIB
"""Requests from here on get a segment of their own (``kMinLargeAlloc``)."""
ROUND_LARGE: Final = 2 * MIB
"""Own segments are multiples of it (``kRoundLarge``)."""

# A free block's key is size << ORDER_BITS | order: one integer that orders by size, then by what
# decides between blocks of equal size, and is compared faster than a tuple.
ORDER_BITS: Final = 56

FREE: Final = 0
ALLOCATED: Final = 1
PENDING: Final = 2
"""Freed, but another stream may still be using it."""
UNMAPPED: Final = 3
"""Address space of an expandable segment without memory behind it."""


@dataclass(slots=True, eq=False)
class ExpandableSegment:
    """One range of addresses that memory is mapped into page by page."""

    address: int
    size: int
    page: int


class Block:
    """A stretch of a segment: in use, free, pending or unmapped."""

    __slots__ = (
        "address",
        "events",
        "gc_base",
        "next",
        "order",
        "pool",
        "prev",
        "requested",
        "segment",
        "size",
        "state",
        "streams",
    )

    def __init__(
        self, pool: Pool, address: int, size: int, segment: ExpandableSegment | None, state: int
    ) -> None:
        self.pool = pool
        self.address = address
        self.order = address if pool.births is None else next(pool.births)
        """Decides between blocks of equal size: the address, or the number of the block."""
        self.size = size
        self.segment = segment
        self.state = state
        self.prev: Block | None = None
        self.next: Block | None = None
        self.requested = 0
        self.gc_base = 0
        self.streams: set[int] | None = None
        """Other streams that use the block (``record_stream``)."""
        self.events: set[int] | None = None
        """Streams whose work on the freed block has not been waited for."""

    def is_split(self) -> bool:
        """Tell whether the segment holds other blocks too."""
        return self.prev is not None or self.next is not None


class Pool:
    """The free blocks of one stream, small or large, ordered by size and then by address."""

    __slots__ = (
        "births",
        "blocks",
        "calls",
        "keys",
        "small",
        "split_above",
        "split_below",
        "stream",
        "unmapped",
    )

    def __init__(
        self,
        *,
        small: bool,
        stream: int,
        calls: list[int],
        births: Iterator[int] | None,
        expandable: bool,
        max_split: float,
    ) -> None:
        self.small = small
        self.stream = stream
        self.births = births
        """Numbers the blocks where that, and not their address, orders equals (torch 2.12)."""
        self.calls = calls
        """Searches so far in this kind of pool, of all streams; the age of blocks counts them."""
        self.keys: list[int] = []
        self.blocks: dict[int, Block] = {}
        self.unmapped: list[tuple[int, Block]] = []
        # A block is split when what is left over is above the first and the request below the
        # second (should_split).
        self.split_above = MIN_BLOCK - 1 if small or expandable else SMALL_SIZE
        self.split_below = float("inf") if small or expandable else max_split

    def add(self, block: Block) -> None:
        """Put a free block in its place."""
        block.state = FREE
        block.gc_base = self.calls[0]
        key = block.size << ORDER_BITS | block.order
        insort(self.keys, key)
        self.blocks[key] = block

    def remove(self, block: Block) -> None:
        """Take a free block out."""
        key = block.size << ORDER_BITS | block.order
        del self.keys[bisect_left(self.keys, key)]
        del self.blocks[key]

    def free_blocks(self) -> list[Block]:
        """Return the free blocks, smallest first."""
        return [self.blocks[key] for key in self.keys]

    def add_unmapped(self, block: Block) -> None:
        """Put an unmapped block in its place, by address."""
        block.state = UNMAPPED
        insort(self.unmapped, (block.address, block))

    def remove_unmapped(self, block: Block) -> None:
        """Take an unmapped block out."""
        del self.unmapped[bisect_left(self.unmapped, (block.address,))]


def merge(block: Block, neighbour: Block | None) -> bool:
    """Join a block with a neighbour of its state that is in its pool's list; tell if it did."""
    if neighbour is None or neighbour.state != block.state:
        return False
    if neighbour.state == UNMAPPED:
        block.pool.remove_unmapped(neighbour)
    else:
        block.pool.remove(neighbour)
    if block.prev is neighbour:
        block.address = neighbour.address
        if block.pool.births is None:
            block.order = block.address
        block.prev = neighbour.prev
        if block.prev is not None:
            block.prev.next = block
    else:
        block.next = neighbour.next
        if block.next is not None:
            block.next.prev = block
    block.size += neighbour.size
    return True


def cut_front(block: Block, size: int) -> Block:
    """Cut ``size`` bytes off the front of a block that is in no list; return the new block."""
    front = Block(block.pool, block.address, size, block.segment, block.state)
    front.prev, front.next = block.prev, block
    if front.prev is not None:
        front.prev.next = front
    block.prev = front
    block.address += size
    block.size -= size
    if block.pool.births is None:
        block.order = block.address
    return front


def cut_back(block: Block, size: int) -> Block:
    """Cut ``size`` bytes off the end of a block that is in no list; return the new block."""
    block.size -= size
    back = Block(block.pool, block.address + block.size, size, block.segment, block.state)
    back.prev, back.next = block, block.next
    if back.next is not None:
        back.next.prev = back
    block.next = back
    return back
