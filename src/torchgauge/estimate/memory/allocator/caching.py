"""A model of PyTorch's CUDA caching allocator, decision by decision and without torch.

Source: ``DeviceCachingAllocator`` in ``c10/cuda/CUDACachingAllocator.cpp`` of pytorch/pytorch;
the methods name the functions that they follow.

Assumes: the device hands out segments at rising addresses and never the same one twice (which
decides between free blocks of equal size); the work of a stream on a recorded block ends when
:meth:`CachingAllocator.synchronize` says so; no CUDA graph is being captured.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import count

from torchgauge.errors import SimulatedOutOfMemoryError
from torchgauge.estimate.memory.allocator import device
from torchgauge.estimate.memory.allocator.blocks import (
    ALLOCATED,
    FREE,
    MIN_BLOCK,
    MIN_LARGE_ALLOC,
    ORDER_BITS,
    PENDING,
    ROUND_LARGE,
    SMALL_SEGMENT,
    SMALL_SIZE,
    UNMAPPED,
    Block,
    Pool,
    cut_front,
    merge,
)
from torchgauge.estimate.memory.allocator.keys import rules_of
from torchgauge.estimate.memory.allocator.settings import AllocatorSettings

INFINITE = float("inf")


class CachingAllocator(device.DeviceMemory):
    """One device's allocator.

    Args:
        settings: what ``PYTORCH_CUDA_ALLOC_CONF`` says, and the torch release.
        capacity_bytes: what the device can give to the allocator: its usable memory less the
            CUDA context and everything else that is not the allocator's; ``None``: no limit.
        allowed_bytes: the limit of ``torch.cuda.set_per_process_memory_fraction``, in bytes;
            by default what ``settings.memory_fraction`` leaves of the capacity. As in torch, it
            is compared with the size of a segment, while an expandable segment maps whole pages:
            the reserved bytes can exceed it by less than a page.
    """

    def __init__(
        self,
        settings: AllocatorSettings | None = None,
        capacity_bytes: int | None = None,
        *,
        allowed_bytes: int | None = None,
    ) -> None:
        settings = settings or AllocatorSettings()
        if allowed_bytes is None:
            allowed_bytes = settings.allowed_bytes(capacity_bytes)
        super().__init__(settings, capacity_bytes, allowed_bytes)
        self._max_split: float = self.settings.max_split_bytes or INFINITE
        self._rounds_plainly = max(self.settings.roundup_power2_divisions) <= 1
        self._collects = (
            self.settings.garbage_collection_threshold > 0 and allowed_bytes is not None
        )
        # With none of these the best fit is the answer, without a second look.
        self._fits_plainly = not (
            self._collects or self.settings.expandable_segments or self._max_split < INFINITE
        )
        self._small_calls, self._large_calls = [0], [0]
        numbered = rules_of(self.settings.torch_release).equals_by_block_number
        self._births = count(1) if numbered else None
        self._pending: dict[Block, None] = {}
        self._has_finished = False
        # The counters of ``torch.cuda.memory_stats``, summed over both pools.
        self.requested_bytes = self.peak_requested_bytes = 0
        self.allocated_bytes = self.peak_allocated_bytes = 0
        """Sizes of live blocks, with rounding and unsplit slack."""
        self.active_bytes = self.peak_active_bytes = 0
        """The same and freed blocks that another stream still uses."""
        self.retries = self.out_of_memory_events = 0
        """Times that everything cached was released to try again, and that this did not help."""

    # -- what a program does ---------------------------------------------------------------

    def allocate(self, nbytes: int, stream: int = 0) -> Block | None:
        """Return the block that serves a request; ``None`` for a request of nothing.

        Raises:
            SimulatedOutOfMemoryError: when the device and the cache cannot serve it.
        """
        if nbytes <= 0:
            if nbytes < 0:
                raise ValueError(f"a negative size: {nbytes}")
            return None
        if self._has_finished:
            self._process_events()
        size = (nbytes + 511) & -512 if self._rounds_plainly else self.round_size(nbytes)
        pool = (self.small if size <= SMALL_SIZE else self.large).get(stream)
        if pool is None:
            pool = self._new_pool(size, stream)
        block: Block | None
        if self._fits_plainly:
            keys = pool.keys
            index = bisect_left(keys, size << ORDER_BITS)
            block = pool.blocks.pop(keys.pop(index)) if index < len(keys) else None
        else:
            block = self._free_block(pool, size)
        if block is None:
            block = self._new_memory(pool, size, nbytes)
        if block.size - size > pool.split_above and size < pool.split_below:
            block = self._split(pool, block, size)
        block.state = ALLOCATED
        block.requested = nbytes
        self.requested_bytes = requested = self.requested_bytes + nbytes
        self.allocated_bytes = allocated = self.allocated_bytes + block.size
        self.active_bytes = active = self.active_bytes + block.size
        if requested > self.peak_requested_bytes:
            self.peak_requested_bytes = requested
        if allocated > self.peak_allocated_bytes:
            self.peak_allocated_bytes = allocated
        if active > self.peak_active_bytes:
            self.peak_active_bytes = active
        return block

    def free(self, block: Block | None) -> None:
        """Give a block back to the cache, or let it wait for the other streams that use it.

        Raises:
            ValueError: when the block is not allocated.
        """
        if block is None:
            return
        if block.state != ALLOCATED:
            raise ValueError("freed twice: the block is not allocated")
        self.allocated_bytes -= block.size
        if block.streams:
            block.state = PENDING
            block.events = block.streams
            block.streams = None
            self._pending[block] = None
        else:
            self._to_cache(block)

    def record_stream(self, block: Block | None, stream: int) -> None:
        """Note that another stream uses the block, as ``torch.Tensor.record_stream`` does."""
        if block is None or stream == block.pool.stream:
            return
        if block.streams is None:
            block.streams = set()
        block.streams.add(stream)

    def synchronize(self, stream: int) -> None:
        """Say that the work of a stream is done; the next allocation sees it."""
        for block in self._pending:
            if block.events is not None:
                block.events.discard(stream)
        self._has_finished = bool(self._pending)

    def empty_cache(self) -> None:
        """Give all free, unsplit segments back to the device (``torch.cuda.empty_cache``)."""
        self._release_cached()

    def reset_peaks(self) -> None:
        """Start the peaks afresh (``torch.cuda.reset_peak_memory_stats``)."""
        self.peak_requested_bytes = self.requested_bytes
        self.peak_allocated_bytes = self.allocated_bytes
        self.peak_active_bytes = self.active_bytes
        self.peak_reserved_bytes = self.reserved_bytes
        self.peak_segments = self.segments

    # -- sizes -----------------------------------------------------------------------------

    def round_size(self, nbytes: int) -> int:
        """Return the block size for a request (``round_size``)."""
        if nbytes < MIN_BLOCK:
            return MIN_BLOCK
        table = self.settings.roundup_power2_divisions
        interval = min(max(nbytes.bit_length() - 21, 0), len(table) - 1)
        divisions = table[interval]
        if divisions <= 1 or nbytes <= MIN_BLOCK * divisions:
            return -(-nbytes // MIN_BLOCK) * MIN_BLOCK
        step = (1 << (nbytes.bit_length() - 1)) // divisions
        return -(-nbytes // step) * step

    def segment_size(self, size: int) -> int:
        """Return what is asked of the device for a block size (``get_allocation_size``)."""
        if size <= SMALL_SIZE:
            return SMALL_SEGMENT
        if size < MIN_LARGE_ALLOC:
            return self.settings.large_segment_bytes
        return -(-size // ROUND_LARGE) * ROUND_LARGE

    # -- free blocks -----------------------------------------------------------------------

    def _new_pool(self, size: int, stream: int) -> Pool:
        small = size <= SMALL_SIZE
        pool = Pool(
            small=small,
            stream=stream,
            calls=self._small_calls if small else self._large_calls,
            births=self._births,
            expandable=self.settings.expandable_segments,
            max_split=self._max_split,
        )
        (self.small if small else self.large)[stream] = pool
        return pool

    def _free_block(self, pool: Pool, size: int) -> Block | None:
        """Take the best free block, under all settings (``get_free_block``)."""
        if self._collects:
            pool.calls[0] += 1
        keys = pool.keys
        index = bisect_left(keys, size << ORDER_BITS)
        if index == len(keys):
            return None
        block = pool.blocks[keys[index]]
        if self.settings.expandable_segments:
            # What a block can grow to counts, so that the growing end is used last.
            room = _room(block)
            while index + 1 < len(keys):
                other = pool.blocks[keys[index + 1]]
                other_room = _room(other)
                if other_room >= room:
                    break
                index, block, room = index + 1, other, other_room
        if size < self._max_split <= block.size:
            return None
        if self._max_split <= size and (
            block.size >= size + self.settings.max_non_split_rounding_bytes
        ):
            return None
        del pool.blocks[keys.pop(index)]
        return block

    def _split(self, pool: Pool, rest: Block, size: int) -> Block:
        """Cut the request off the front of a block; the rest becomes a free block."""
        front = cut_front(rest, size)
        rest.state = FREE
        rest.gc_base = pool.calls[0]
        key = rest.size << ORDER_BITS | rest.order
        insort(pool.keys, key)
        pool.blocks[key] = rest
        return front

    def _to_cache(self, block: Block) -> None:
        """Make a block free and join it with free neighbours (``free_block``)."""
        pool = block.pool
        self.active_bytes -= block.size
        self.requested_bytes -= block.requested
        block.state = FREE
        before, after = block.prev, block.next
        if before is not None and before.state == FREE:
            merge(block, before)
        if after is not None and after.state == FREE:
            merge(block, after)
        block.gc_base = pool.calls[0]
        key = block.size << ORDER_BITS | block.order
        insort(pool.keys, key)
        pool.blocks[key] = block

    def _process_events(self) -> None:
        """Free the blocks that no unfinished stream uses any more (``process_events``)."""
        for block in list(self._pending):
            if not block.events:
                del self._pending[block]
                block.events = None
                self._to_cache(block)
        self._has_finished = False

    # -- memory of the device --------------------------------------------------------------

    def _new_memory(self, pool: Pool, size: int, nbytes: int) -> Block:
        """Get memory for a request that the cache cannot serve: the ladder in ``malloc``."""
        segment = self.segment_size(size)
        if self._collects:
            device.collect_garbage(self)
        block = device.get_memory(self, pool, size, segment)
        if block is None and device.release_oversize(self, pool, size):
            block = device.get_memory(self, pool, size, segment)
        if block is None:
            self._release_cached()
            self.retries += 1
            block = device.get_memory(self, pool, size, segment)
        if block is None:
            self.out_of_memory_events += 1
            raise SimulatedOutOfMemoryError(
                requested_bytes=nbytes,
                segment_bytes=segment,
                free_bytes=self._free_bytes(),
                reserved_bytes=self.reserved_bytes,
                allocated_bytes=self.allocated_bytes,
            )
        if self.reserved_bytes > self.peak_reserved_bytes:
            self.peak_reserved_bytes = self.reserved_bytes
        return block

    def _free_bytes(self) -> int:
        """Return what may still be asked of the device."""
        limits = [x for x in (self.capacity_bytes, self.allowed_bytes) if x is not None]
        return max(min(limits, default=0) - self.reserved_bytes, 0)

    def _release_cached(self) -> None:
        """Wait for all streams and release what is wholly free (``release_cached_blocks``)."""
        for block in list(self._pending):
            block.events = None
            self._to_cache(block)
        self._pending.clear()
        self._has_finished = False
        device.release_free_blocks(self)


def _room(block: Block) -> int:
    """Return the size that a free block of an expandable segment can grow to."""
    after = block.next
    return block.size + (after.size if after is not None and after.state == UNMAPPED else 0)
