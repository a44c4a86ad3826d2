"""The caching allocator's rules, one test each, with figures worked out by hand.

Where a test names a function, it is the one of ``c10/cuda/CUDACachingAllocator.cpp`` (pytorch)
whose rule it checks. ``test_allocator_truth.py`` compares whole programs with torch itself.
"""

from __future__ import annotations

import pytest

from torchgauge.estimate.memory.allocator import AllocatorSettings, Block, CachingAllocator

KIB = 1 << 10
MIB = 1 << 20


def allocator(text="", capacity=None, *, release="2.13", allowed=None):
    return CachingAllocator(AllocatorSettings.parse(text, release), capacity, allowed_bytes=allowed)


def counters(a):
    """Allocated, reserved bytes and segments: what most tests look at."""
    return a.allocated_bytes, a.reserved_bytes, a.segments


# ------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("nbytes", "size"),
    [(1, 512), (511, 512), (512, 512), (513, 1024), (1000, 1024), (MIB - 1, MIB), (MIB, MIB)],
)
def test_sizes_are_multiples_of_512(nbytes, size):
    """round_size; kMinBlockSize."""
    a = allocator()
    a.allocate(nbytes)
    assert (a.requested_bytes, a.allocated_bytes) == (nbytes, size)


def test_nothing_asked_for_takes_nothing():
    """NativeCachingAllocator::allocate calls malloc only for a size above zero."""
    a = allocator()
    block = a.allocate(0)
    a.free(block)
    assert block is None and counters(a) == (0, 0, 0)


def test_a_negative_size_is_refused():
    with pytest.raises(ValueError, match="a negative size: -1"):
        allocator().allocate(-1)


@pytest.mark.parametrize(
    ("nbytes", "segment"),
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB - 511, 10 * MIB),  # rounds to 10 MiB, which is no longer below it
        (10 * MIB, 10 * MIB),
        (10 * MIB + 1, 12 * MIB),
        (33 * MIB, 34 * MIB),
    ],
)
def test_segment_sizes(nbytes, segment):
    """get_allocation_size; kSmallSize, kSmallBuffer, kMinLargeAlloc, kRoundLarge."""
    a = allocator()
    a.allocate(nbytes)
    assert (a.reserved_bytes, a.segments) == (segment, 1)


def test_the_large_segment_can_be_set_from_2_11():
    """large_segment_size_mb, pytorch PR 172056."""
    a = allocator("large_segment_size_mb:40")
    a.allocate(2 * MIB)
    assert a.reserved_bytes == 40 * MIB
    assert a.settings.max_non_split_rounding_bytes == 40 * MIB, "follows it, as in parseArgs"


def test_small_and_large_requests_share_no_segment():
    """get_pool."""
    a = allocator()
    a.free(a.allocate(2 * MIB))
    a.allocate(MIB)
    assert (a.reserved_bytes, a.segments) == (22 * MIB, 2)


@pytest.mark.parametrize(
    ("nbytes", "size"),
    [
        (2048, 2048),
        (2049, 2560),  # above 512 × 4: steps of 2048 / 4
        (2561, 3072),
        (4097, 5120),
        (MIB + 1, MIB + 256 * KIB),
        (4 * MIB, 4 * MIB),
    ],
)
def test_rounding_up_between_powers_of_two(nbytes, size):
    """roundup_power2_next_division with 4 divisions."""
    a = allocator("roundup_power2_divisions:4")
    assert a.round_size(nbytes) == size


def test_rounding_by_interval():
    """Intervals start at 1 MiB; below it the first one counts. One division rounds to 512."""
    a = allocator("roundup_power2_divisions:[1:2,2:1,4:4,>:8]")
    assert a.round_size(600 * KIB) == 768 * KIB
    assert a.round_size(MIB + 1) == MIB + 512 * KIB
    assert a.round_size(2 * MIB + 1) == 2 * MIB + 512
    assert a.round_size(4 * MIB + 1) == 5 * MIB
    assert a.round_size(8 * MIB + 1) == 9 * MIB


# ------------------------------------------------------------------------ best fit, split, merge


def test_small_remainders_of_512_are_split_off():
    """should_split: the small pool splits from kMinBlockSize on."""
    a = allocator()
    first = a.allocate(MIB)
    second = a.allocate(MIB - 512)
    third = a.allocate(512)
    assert counters(a) == (2 * MIB, 2 * MIB, 1)
    assert first.address + MIB == second.address
    assert second.address + MIB - 512 == third.address


def test_large_remainders_must_exceed_1_mib():
    """should_split: otherwise the slack belongs to the block and is counted as allocated."""
    a = allocator()
    a.allocate(19 * MIB + 512)
    assert a.allocated_bytes == 20 * MIB, "1 MiB - 512 left over: not split"
    a = allocator()
    a.allocate(11 * MIB)
    assert a.allocated_bytes == 12 * MIB, "1 MiB exactly: not split"
    a = allocator()
    a.allocate(11 * MIB - 512)
    assert a.allocated_bytes == 11 * MIB - 512, "1 MiB and 512 B: split"


def test_the_smallest_block_that_fits_is_taken():
    """get_free_block: lower_bound of (size, address)."""
    a = allocator()
    large, middle = a.allocate(40 * MIB), a.allocate(24 * MIB)
    address = middle.address
    a.free(large)
    a.free(middle)
    assert a.allocate(20 * MIB).address == address


def test_equal_blocks_are_taken_by_address():
    a = allocator()
    blocks = [a.allocate(12 * MIB) for _ in range(3)]
    addresses = [block.address for block in blocks]
    for block in (blocks[2], blocks[0], blocks[1]):
        a.free(block)
    assert [a.allocate(12 * MIB).address for _ in range(3)] == addresses


def test_torch_2_12_takes_equal_blocks_in_the_order_of_their_making():
    """pytorch PR 178362. Splitting makes a block for the front: it is younger than the rest."""
    taken = {}
    for release in ("2.11", "2.12", "2.13"):
        a = allocator(release=release)
        front, middle, rest = a.allocate(512), a.allocate(MIB), a.allocate(MIB - 512)
        a.free(front)  # a free block of 512 B, the second one made
        a.free(rest)  # the oldest block, 1 MiB - 512 B
        a.allocate(MIB - 1024)  # leaves 512 B of the oldest block at the end of the segment
        taken[release] = a.allocate(512).address == front.address
        a.free(middle)
    assert taken == {"2.11": True, "2.12": False, "2.13": True}


def test_free_neighbours_are_joined():
    """free_block, try_merge_blocks: previous and next."""
    a = allocator()
    blocks = [a.allocate(4 * MIB) for _ in range(5)]
    start = blocks[0].address
    for index in (0, 2, 1):
        a.free(blocks[index])
    assert a.allocate(12 * MIB).address == start
    assert counters(a) == (20 * MIB, 20 * MIB, 1)


def test_blocks_are_not_joined_across_segments():
    a = allocator()
    first, second = a.allocate(10 * MIB), a.allocate(10 * MIB)
    a.free(first)
    a.free(second)
    a.allocate(20 * MIB)
    assert counters(a) == (20 * MIB, 40 * MIB, 3)


def test_freed_twice():
    a = allocator()
    block = a.allocate(1)
    a.free(block)
    with pytest.raises(ValueError, match="freed twice: the block is not allocated"):
        a.free(block)


def test_a_walk_by_hand():
    """A step of a small network: every counter after every event."""
    a = allocator()
    weight = a.allocate(3_000_000)  # 5860 × 512 = 3,000,320; a segment of 20 MiB
    assert counters(a) == (3_000_320, 20 * MIB, 1)
    bias = a.allocate(4_000)  # 8 × 512 = 4,096; a segment of 2 MiB
    assert counters(a) == (3_004_416, 22 * MIB, 2)
    hidden = a.allocate(12_000_000)  # 12,000,256, from the 17,971,200 that are left
    assert counters(a) == (15_004_672, 22 * MIB, 2)
    output = a.allocate(8_000_000)  # 8,000,000 = 15625 × 512; 5,970,944 left: a new segment
    assert counters(a) == (23_004_672, 42 * MIB, 3)
    a.free(hidden)  # joins the 5,970,944 behind it
    gradient = a.allocate(17_971_200)  # exactly the free stretch
    assert counters(a) == (28_975_616, 42 * MIB, 3)
    for block in (output, gradient, bias, weight):
        a.free(block)
    assert counters(a) == (0, 42 * MIB, 3)
    assert a.peak_allocated_bytes == 28_975_616 and a.requested_bytes == 0
    a.empty_cache()
    assert counters(a) == (0, 0, 0) and a.peak_reserved_bytes == 42 * MIB


# ------------------------------------------------------------------------ max_split_size


def test_oversize_blocks_are_neither_split_nor_given_to_small_requests():
    """get_free_block and should_split with max_split_size."""
    a = allocator("max_split_size_mb:32")
    a.free(a.allocate(64 * MIB))
    a.allocate(16 * MIB)
    assert counters(a) == (16 * MIB, 80 * MIB, 2), "the cached 64 MiB are left alone"
    a.allocate(50 * MIB)
    assert counters(a) == (80 * MIB, 80 * MIB, 2), "within 20 MiB of 64: the whole block"
    a = allocator("max_split_size_mb:32")
    a.free(a.allocate(64 * MIB))
    a.allocate(44 * MIB)
    assert counters(a) == (44 * MIB, 108 * MIB, 2), "20 MiB larger: too large"


def test_how_much_larger_an_oversize_block_may_be_can_be_set():
    """max_non_split_rounding_mb, pytorch PR 136174."""
    a = allocator("max_split_size_mb:32,max_non_split_rounding_mb:40")
    a.free(a.allocate(80 * MIB))
    a.allocate(40 * MIB + 2 * MIB)
    assert counters(a) == (80 * MIB, 80 * MIB, 1)


def test_oversize_blocks_are_released_before_all_others():
    """release_available_cached_blocks: only as much as the request needs, without a retry."""
    a = allocator("max_split_size_mb:32", 200 * MIB)
    for block in [a.allocate(size * MIB) for size in (40, 60, 80, 10)]:
        a.free(block)
    a.allocate(84 * MIB)  # none is large enough: the largest go, until 84 MiB are released
    assert counters(a) == (84 * MIB, 134 * MIB, 3), "80 and 60 MiB went, 40 and 10 are cached"
    assert a.retries == 0


def test_a_single_oversize_block_suffices():
    a = allocator("max_split_size_mb:32", 200 * MIB)
    for block in [a.allocate(size * MIB) for size in (80, 100)]:
        a.free(block)
    a.allocate(60 * MIB)  # 80 is 20 MiB larger, so it is released instead
    assert counters(a) == (60 * MIB, 160 * MIB, 2) and a.retries == 0


# ------------------------------------------------------------------------ what a program sees


def test_blocks_are_what_allocate_returns():
    assert isinstance(allocator().allocate(1), Block)


def test_reset_peaks():
    a = allocator()
    a.free(a.allocate(12 * MIB))
    a.reset_peaks()
    assert a.peak_allocated_bytes == a.peak_requested_bytes == a.peak_active_bytes == 0
    assert (a.peak_reserved_bytes, a.peak_segments) == (12 * MIB, 1)
