"""The caching allocator's rules, one test each, with figures worked out by hand.

Where a test names a function, it is the one of ``c10/cuda/CUDACachingAllocator.cpp`` (pytorch)
whose rule it checks. ``test_allocator_truth.py`` compares whole programs with torch itself.
"""

from __future__ import annotations

import ctypes
import itertools
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchgauge.errors import AllocatorSettingsError, SimulatedOutOfMemoryError
from torchgauge.estimate.allocator import (
    AllocatorSettings,
    Block,
    CachingAllocator,
    replay,
    smallest_cap,
)
from torchgauge.estimate.allocator.blocks import FREE, UNMAPPED

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


# ------------------------------------------------------------------------ under a cap


def test_what_is_cached_is_released_when_the_device_is_full():
    """malloc: alloc_block, then release_cached_blocks, then alloc_block again."""
    a = allocator(capacity=100 * MIB)
    for block in [a.allocate(30 * MIB) for _ in range(3)]:
        a.free(block)
    a.allocate(70 * MIB)
    assert counters(a) == (70 * MIB, 70 * MIB, 1) and a.retries == 1


def test_a_segment_in_use_cannot_be_released():
    """release_blocks: only unsplit blocks; the error says what was asked of the device."""
    a = allocator(capacity=100 * MIB)
    blocks = [a.allocate(20 * MIB) for _ in range(4)]
    kept = a.allocate(5 * MIB)
    for block in blocks[:3]:
        a.free(block)
    with pytest.raises(SimulatedOutOfMemoryError) as caught:
        a.allocate(61 * MIB)
    error = caught.value
    assert (error.requested_bytes, error.segment_bytes) == (61 * MIB, 62 * MIB)
    assert (error.free_bytes, error.reserved_bytes) == (60 * MIB, 40 * MIB)
    assert error.allocated_bytes == 25 * MIB
    assert error.exit_status == 1 and str(error) == (
        "out of memory: 63,963,136 B asked for, a segment of 65,011,712 B needed, "
        "62,914,560 B free; 41,943,040 B reserved, 26,214,400 B of it allocated\n"
        "  try: a smaller batch, or a device with more memory"
    )
    assert (a.retries, a.out_of_memory_events) == (1, 1)
    a.free(kept)
    a.allocate(61 * MIB)
    assert a.statistics().retries == 2


def test_a_fraction_limits_the_process():
    """set_per_process_memory_fraction: total_allocated_memory + size > allowed."""
    a = allocator(capacity=100 * MIB, allowed=50 * MIB)
    a.allocate(48 * MIB)
    with pytest.raises(SimulatedOutOfMemoryError) as caught:
        a.allocate(1)
        a.allocate(1 + 2 * MIB)
    assert caught.value.free_bytes == 0
    by_setting = allocator("per_process_memory_fraction:0.5", 100 * MIB)
    assert by_setting.allowed_bytes == 50 * MIB


def test_garbage_collection_releases_the_blocks_that_were_idle_longest():
    """garbage_collect_cached_blocks: those at least as old as the mean, in searches of the pool."""
    a = allocator("garbage_collection_threshold:0.5", allowed=400 * MIB)
    old, young, _ = a.allocate(60 * MIB), a.allocate(80 * MIB), a.allocate(90 * MIB)
    a.free(old)  # idle from the third search on
    a.free(young)
    for _ in range(2):
        a.free(a.allocate(80 * MIB))  # idle from the fifth on
    a.allocate(100 * MIB)  # the sixth: ages 3 and 1, and 230 MiB are 30 too many
    assert counters(a) == (190 * MIB, 270 * MIB, 3), "60 MiB went, 80 stayed"
    assert a.retries == 0


def test_blocks_of_just_the_mean_age_are_collected():
    a = allocator("garbage_collection_threshold:0.5", allowed=400 * MIB)
    old, young = a.allocate(60 * MIB), a.allocate(180 * MIB)
    a.free(old)
    a.free(a.allocate(20 * MIB))  # serves itself from the 60 MiB, which are young again
    a.free(young)
    a.allocate(181 * MIB)  # 240 MiB are 40 too many; both have the same age
    assert counters(a) == (182 * MIB, 182 * MIB, 1) and a.retries == 0


def test_at_the_threshold_nothing_is_collected():
    a = allocator("garbage_collection_threshold:0.5", allowed=400 * MIB)
    a.free(a.allocate(200 * MIB))
    a.allocate(199 * MIB + 512, stream=1)
    assert a.reserved_bytes == 400 * MIB and a.retries == 0


def test_no_garbage_collection_without_a_fraction():
    """malloc: only if set_fraction."""
    a = allocator("garbage_collection_threshold:0.1", 200 * MIB)
    a.free(a.allocate(60 * MIB))
    a.allocate(70 * MIB)
    assert a.reserved_bytes == 130 * MIB


# ------------------------------------------------------------------------ streams


def test_a_stream_does_not_use_what_another_has_cached():
    """BlockComparatorSize orders by stream first."""
    a = allocator()
    a.free(a.allocate(12 * MIB, stream=1))
    a.allocate(12 * MIB, stream=2)
    assert counters(a) == (12 * MIB, 24 * MIB, 2)


def test_a_recorded_block_waits_for_the_other_stream():
    """recordStream, insert_events, process_events: freed but active until the work is done."""
    a = allocator()
    block = a.allocate(12 * MIB)
    a.record_stream(block, 7)
    a.free(block)
    assert (a.allocated_bytes, a.active_bytes) == (0, 12 * MIB)
    a.allocate(12 * MIB)
    assert a.reserved_bytes == 24 * MIB, "not reused yet"
    a.synchronize(7)
    assert a.active_bytes == 24 * MIB, "events are looked at by the next allocation"
    a.allocate(12 * MIB)
    assert (a.active_bytes, a.reserved_bytes, a.peak_active_bytes) == (24 * MIB,) * 3


def test_recording_the_own_stream_changes_nothing():
    a = allocator()
    block = a.allocate(12 * MIB, stream=3)
    a.record_stream(block, 3)
    a.record_stream(a.allocate(0), 3)
    a.free(block)
    assert a.active_bytes == 0


def test_work_that_ended_before_the_free_does_not_count():
    a = allocator()
    block = a.allocate(12 * MIB)
    a.record_stream(block, 7)
    a.synchronize(7)
    a.free(block)
    a.allocate(12 * MIB)
    assert a.reserved_bytes == 24 * MIB


def test_releasing_waits_for_all_streams():
    """release_cached_blocks calls synchronize_and_free_events first."""
    a = allocator(capacity=20 * MIB)
    block = a.allocate(12 * MIB)
    a.record_stream(block, 7)
    a.free(block)
    a.allocate(14 * MIB)
    assert counters(a) == (14 * MIB, 14 * MIB, 1)


# ------------------------------------------------------------------------ expandable segments


def test_pages_are_mapped_as_they_are_needed():
    """map_block: 2 MiB pages for small requests, 20 MiB for large ones; no segment is counted."""
    a = allocator("expandable_segments:True")
    a.allocate(MIB)
    assert counters(a) == (MIB, 2 * MIB, 0)
    first = a.allocate(30 * MIB)
    assert counters(a) == (31 * MIB, 42 * MIB, 0)
    second = a.allocate(25 * MIB)  # 10 MiB are there, 15 more need a page
    assert counters(a) == (56 * MIB, 62 * MIB, 0)
    assert second.address == first.address + 30 * MIB


def test_the_page_follows_the_large_segment_size():
    a = allocator("expandable_segments:True,large_segment_size_mb:12")
    a.allocate(13 * MIB)
    assert a.reserved_bytes == 24 * MIB


def test_remainders_of_512_are_split_in_expandable_segments():
    """should_split with expandable_segments."""
    a = allocator("expandable_segments:True")
    a.allocate(20 * MIB - 512)
    assert a.allocated_bytes == 20 * MIB - 512


def test_a_block_that_cannot_grow_is_preferred():
    """get_free_block: what a block can expand to counts as its size."""
    a = allocator("expandable_segments:True")
    hole, _, end = a.allocate(18 * MIB), a.allocate(4 * MIB), a.allocate(2 * MIB)
    start = hole.address
    a.free(hole)  # 18 MiB free; 16 MiB are free at the growing end
    assert a.allocate(15 * MIB).address == start < end.address


def test_empty_pages_are_unmapped():
    """unmap_block: pages that lie wholly in a free block; the rest stays mapped."""
    a = allocator("expandable_segments:True")
    first, middle, last = a.allocate(10 * MIB), a.allocate(45 * MIB), a.allocate(5 * MIB)
    a.free(middle)  # 10 to 55 MiB free: the page from 20 to 40 lies in it
    a.empty_cache()
    assert counters(a) == (15 * MIB, 40 * MIB, 0)
    a.allocate(40 * MIB)  # maps the gap again: 10 to 50 MiB
    assert counters(a) == (55 * MIB, 60 * MIB, 0)
    a.free(first)
    a.free(last)
    a.empty_cache()
    assert a.reserved_bytes == 60 * MIB, "10 MiB at either end are no page"


def test_all_of_an_empty_expandable_segment_goes():
    a = allocator("expandable_segments:True")
    a.free(a.allocate(45 * MIB))
    a.empty_cache()
    assert counters(a) == (0, 0, 0)
    assert not any(pool.unmapped or pool.keys for pool in a.pools())


def test_expandable_segments_fit_where_fixed_ones_do_not():
    """The reason for expandable segments: what is free in a segment cannot join new memory."""

    def run(text):
        a = allocator(text, 100 * MIB)
        a.free(a.allocate(90 * MIB))
        a.allocate(5 * MIB)  # the front of the 90 MiB, which cannot be released any more
        a.allocate(88 * MIB)
        return a.reserved_bytes

    assert run("expandable_segments:True") == 100 * MIB
    with pytest.raises(SimulatedOutOfMemoryError):
        run("")


def test_a_fraction_counts_whole_segments_even_of_expandable_ones():
    """alloc_block checks the segment's size, before it knows how much it has to map."""
    a = allocator("expandable_segments:True", allowed=30 * MIB)
    a.allocate(12 * MIB)
    with pytest.raises(SimulatedOutOfMemoryError):
        a.allocate(9 * MIB)  # needs one page more than the 30 MiB allow
    a.allocate(8 * MIB)  # is there


# ------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed:11", "unknown key 'speed'"),
        ("max_split_size_mb", "'max_split_size_mb' is not key:value"),
        ("max_split_size_mb:", "'max_split_size_mb:' is not key:value"),
        ("max_split_size_mb:lots", "max_split_size_mb:lots is not a whole number"),
        ("max_split_size_mb:19", "max_split_size_mb:19 is too small\n  try: at least 20"),
        ("max_non_split_rounding_mb:1", "max_non_split_rounding_mb:1 is too small"),
        ("max_split_size_mb:20,large_segment_size_mb:40", "too small\n  try: at least 40"),
        ("large_segment_size_mb:10", "large_segment_size_mb:10 must be above 10"),
        ("expandable_segments:true", "expandable_segments:true is neither True nor False"),
        ("garbage_collection_threshold:1.0", "garbage_collection_threshold:1.0 is not a share"),
        ("garbage_collection_threshold:x", "garbage_collection_threshold:x is not a number"),
        ("roundup_power2_divisions:3", "roundup_power2_divisions: 3 is not a power of two"),
        ("roundup_power2_divisions:0", "roundup_power2_divisions: 0 is not a power of two"),
        ("roundup_power2_divisions:[3:4]", "roundup_power2_divisions: 3 is not a power of two"),
        ("roundup_power2_divisions:[1:4", "has no closing bracket"),
        ("backend:cudaMallocAsync", "backend:cudaMallocAsync is CUDA's own pool"),
        ("backend:mine", "unknown backend 'mine'"),
        ("pinned_num_register_threads:x", "pinned_num_register_threads:x is not a whole number"),
    ],
)
def test_what_the_settings_refuse(text, message):
    with pytest.raises(AllocatorSettingsError) as caught:
        AllocatorSettings.parse(text)
    assert message in str(caught.value) and caught.value.hint
    assert caught.value.exit_status == 2


def test_the_hint_lists_the_keys_of_the_release():
    with pytest.raises(AllocatorSettingsError) as caught:
        AllocatorSettings.parse("speed:11", "2.6")
    assert "max_split_size_mb" in caught.value.hint
    assert "large_segment_size_mb" not in caught.value.hint


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("graph_capture_record_stream_reuse:True", "2.9"),
        ("per_process_memory_fraction:0.5", "2.10"),
        ("large_segment_size_mb:40", "2.11"),
        ("throw_on_cudamalloc_oom:True", "2.12"),
        ("pinned_max_cached_size_mb:64", "2.13"),
    ],
)
def test_keys_are_known_from_a_release_on(key, first):
    """The strings of the released libraries; see keys.py."""
    major, minor = first.split(".")
    before = f"{major}.{int(minor) - 1}"
    AllocatorSettings.parse(key, first)
    name = key.partition(":")[0]
    with pytest.raises(AllocatorSettingsError, match=f"torch {before} has no key '{name}'"):
        AllocatorSettings.parse(key, before)


def test_max_split_size_may_be_the_large_segment_from_2_10():
    assert AllocatorSettings.parse("max_split_size_mb:20", "2.10").max_split_bytes == 20 * MIB
    with pytest.raises(AllocatorSettingsError, match="too small"):
        AllocatorSettings.parse("max_split_size_mb:20", "2.9")


def test_the_rest_of_the_intervals():
    """Before pytorch PR 165304, '>' also replaced the interval named last."""
    text = "roundup_power2_divisions:[256:1,512:2,>:4]"
    new = AllocatorSettings.parse(text, "2.10").roundup_power2_divisions
    old = AllocatorSettings.parse(text, "2.9").roundup_power2_divisions
    assert new == (1,) * 9 + (2,) + (4,) * 6
    assert old == (1,) * 9 + (4,) + (4,) * 6


def test_spaces_and_everything_at_once():
    settings = AllocatorSettings.parse(
        " max_split_size_mb : 64, expandable_segments:True ,backend:native,"
        "roundup_power2_divisions:[64:8,>:2],garbage_collection_threshold:0.8,"
        "pinned_use_background_threads:True",
        "2.13.0+cu130",
    )
    assert settings.torch_release == "2.13" and settings.max_split_bytes == 64 * MIB
    assert settings.expandable_segments and settings.garbage_collection_threshold == 0.8
    assert settings.roundup_power2_divisions == (8,) * 7 + (2,) * 9
    assert settings.without_effect == ("backend", "pinned_use_background_threads")
    assert AllocatorSettings.parse("") == AllocatorSettings()


@pytest.mark.parametrize(
    ("release", "message"),
    [("new", "'new' is not a torch release"), ("2.5", "of torch 2.5 are not known")],
)
def test_what_is_no_release(release, message):
    with pytest.raises(AllocatorSettingsError, match=message):
        AllocatorSettings.parse("", release)


@pytest.fixture
def torch_settings():
    """Set torch's own allocator settings, which even a CPU build has since 2.10."""
    torch = pytest.importorskip("torch")
    if not hasattr(torch._C, "_accelerator_setAllocatorSettings"):
        pytest.skip("this torch has no settings for all accelerators")
    # Some settings stay from one call to the next.
    reset = "large_segment_size_mb:20,expandable_segments:False"
    torch._C._accelerator_setAllocatorSettings(reset)
    yield torch._C._accelerator_setAllocatorSettings
    torch._C._accelerator_setAllocatorSettings(reset)


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("max_split_size_mb:20", True),
        ("max_split_size_mb:19", False),
        ("large_segment_size_mb:40,max_split_size_mb:40", True),
        ("max_split_size_mb:40,large_segment_size_mb:64", False),
        ("large_segment_size_mb:10", False),
        ("large_segment_size_mb:11", True),
        ("max_non_split_rounding_mb:19", False),
        ("garbage_collection_threshold:0.5", True),
        ("garbage_collection_threshold:1.5", False),
        ("garbage_collection_threshold:0", False),
        ("expandable_segments:true", False),
        ("roundup_power2_divisions:3", False),
        ("roundup_power2_divisions:0", False),
        ("roundup_power2_divisions:[1:0,4:2]", True),
        ("roundup_power2_divisions:[300:2]", False),
        (" max_split_size_mb : 64 , expandable_segments:False", True),
        ("max_split_size_mb:many", False),
    ],
)
def test_torch_itself_refuses_the_same(torch_settings, text, fine):
    import torch

    release = torch.__version__
    if "large_segment" in text and AllocatorSettings.parse("", release).torch_release == "2.10":
        pytest.skip("2.10 has no large_segment_size_mb")
    for parse in (torch_settings, lambda t: AllocatorSettings.parse(t, release)):
        if fine:
            parse(text)
        else:
            with pytest.raises((ValueError, AllocatorSettingsError)):
                parse(text)


def test_torch_itself_reads_the_same_divisions(torch_settings):
    """Asks libc10 for the divisions of sizes in each interval."""
    import torch

    library = Path(torch.__file__).parent / "lib" / "libc10.so"
    name = "_ZN3c1016CachingAllocator26AcceleratorAllocatorConfig24roundup_power2_divisionsEm"
    if not library.exists() or not hasattr(ctypes.CDLL(str(library)), name):
        pytest.skip("libc10 does not export the function")
    divisions = ctypes.CDLL(str(library))[name]
    divisions.restype = divisions.argtypes = None
    divisions.argtypes, divisions.restype = [ctypes.c_size_t], ctypes.c_size_t
    for value in ("4", "[256:1,512:2,>:4]", "[1:1,4:2,16:8,>:4]", "[>:8]", "[32768:2]", "[2:4]"):
        text = f"roundup_power2_divisions:{value}"
        torch_settings(text)
        ours = AllocatorSettings.parse(text, torch.__version__).roundup_power2_divisions
        assert [divisions(MIB << i) for i in range(18)] == [*ours, ours[-1], ours[-1]], text


# ------------------------------------------------------------------------ replay


def events_of(*sizes):
    return [(False, index, size) for index, size in enumerate(sizes)]


def test_replay_counts_what_the_allocator_counts():
    events = [*events_of(3 * MIB, 5 * MIB, 12 * MIB), (True, 1, 5 * MIB), (False, 1, 600)]
    result = replay(events, record=True)
    assert result.fits and result.events == 5
    assert result.allocated_after == (3 * MIB, 8 * MIB, 20 * MIB, 15 * MIB, 15 * MIB + 1024)
    assert result.reserved_after == (20 * MIB, 20 * MIB, 20 * MIB, 20 * MIB, 22 * MIB)
    assert (result.peak_allocated_bytes, result.peak_reserved_bytes) == (20 * MIB, 22 * MIB)
    assert result.peak_requested_bytes == result.peak_active_bytes == 20 * MIB
    assert result.allocated_at_reserved_peak_bytes == 15 * MIB + 1024
    assert result.fragmentation_bytes == 7 * MIB - 1024
    assert (result.final_allocated_bytes, result.final_reserved_bytes) == (
        15 * MIB + 1024,
        22 * MIB,
    )
    assert (result.peak_segments, result.retries) == (2, 0)
    assert replay(events).allocated_after == ()


def test_replay_can_start_its_peaks_late():
    """As torch.cuda.reset_peak_memory_stats before that event."""
    events = [*events_of(30 * MIB, 4 * MIB), (True, 0, 0), (False, 9, 2 * MIB)]
    result = replay(events, peaks_from=3, record=True)
    assert result.peak_allocated_bytes == 6 * MIB and result.peak_reserved_bytes == 50 * MIB
    assert result.allocated_at_reserved_peak_bytes == 4 * MIB
    assert len(result.allocated_after) == 4
    assert replay(events, peaks_from=4).peak_allocated_bytes == 6 * MIB


def test_replay_says_where_memory_ran_out():
    result = replay(events_of(30 * MIB, 40 * MIB, 50 * MIB), None, 100 * MIB, record=True)
    assert not result.fits and result.events == 2 and result.retries == 1
    assert result.out_of_memory.event == 2
    assert result.out_of_memory.requested_bytes == 50 * MIB
    assert result.out_of_memory.segment_bytes == 50 * MIB
    assert result.out_of_memory.free_bytes == 30 * MIB
    assert result.out_of_memory.reserved_bytes == 70 * MIB
    assert result.out_of_memory.allocated_bytes == 70 * MIB
    assert result.allocated_after == (30 * MIB, 70 * MIB)


def test_replay_knows_streams():
    events = [(False, 0, 12 * MIB, 1), (True, 0, 0, 1), (False, 1, 12 * MIB, 2)]
    assert replay(events).peak_reserved_bytes == 24 * MIB


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([(False, "w", 1), (False, "w", 1)], "event 1 allocates 'w', which is still allocated"),
        ([(False, "w", 1), (True, "v", 1)], "event 1 frees 'v', which is not allocated"),
        ([(False, "w", 1), (True, "w", 1), (True, "w", 1)], "event 2 frees 'w'"),
    ],
)
def test_replay_refuses_what_cannot_have_happened(events, message):
    with pytest.raises(ValueError, match=message):
        replay(events)


def test_a_training_step_is_replayed_in_time():
    """Some 30,000 events are a step of an 8 B model; 0.3 s are allowed, 0.05 s is usual."""
    events = []
    for layer in range(600):
        events += [(False, (layer, i), (i + 1) * 77_777) for i in range(40)]
        events += [(True, (layer, i), 0) for i in range(0, 40, 4)]
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        replay(events)
        best = min(best, time.process_time() - start)
    assert len(events) == 30_000 and best < 0.3


# ------------------------------------------------------------------------ the smallest cap


def test_the_smallest_cap_of_a_step_that_fragments():
    """Uncapped, 30 + 40 + 60 MiB are reserved; capped, the freed ones make room: 60 + 10."""
    events = [*events_of(30 * MIB), (True, 0, 0), (False, 1, 40 * MIB), (True, 1, 0)]
    events += [(False, 2, 60 * MIB), (False, 3, 10 * MIB)]
    assert replay(events).peak_reserved_bytes == 140 * MIB - 10 * MIB
    cap = smallest_cap(events)
    assert cap == 70 * MIB
    assert replay(events, None, cap).fits and not replay(events, None, cap - 2 * MIB).fits


def test_a_fraction_and_a_device_differ_with_expandable_segments():
    """alloc_block compares a fraction with the segment's size; then whole pages are mapped."""
    settings = AllocatorSettings(expandable_segments=True)
    events = events_of(41 * MIB)
    assert smallest_cap(events, settings) == 60 * MIB
    assert smallest_cap(events, settings, by_fraction=True) == 42 * MIB
    assert replay(events, settings, allowed_bytes=42 * MIB).peak_reserved_bytes == 60 * MIB


def test_no_events_need_no_memory():
    assert smallest_cap([]) == 0 and replay([]).peak_reserved_bytes == 0


# ------------------------------------------------------------------------ what always holds

TEXTS = st.sampled_from(
    [
        "",
        "expandable_segments:True",
        "max_split_size_mb:21",
        "roundup_power2_divisions:4",
        "garbage_collection_threshold:0.4",
        "expandable_segments:True,large_segment_size_mb:12",
    ]
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from("aaafffrse"),
        st.integers(0, 40),
        st.one_of(st.integers(0, 2 * MIB), st.integers(0, 60 * MIB)),
        st.integers(0, 2),
    ),
    max_size=60,
)
CAPS = st.sampled_from([None, 40 * MIB, 100 * MIB, 300 * MIB])


def play(a, steps, after_each=lambda live: None):
    live = []
    for what, index, nbytes, stream in steps:
        if what == "a":
            try:
                block = a.allocate(nbytes, stream)
            except SimulatedOutOfMemoryError:
                block = None
            live += [block] if block is not None else []
        elif what == "f" and live:
            a.free(live.pop(index % len(live)))
        elif what == "r" and live:
            a.record_stream(live[index % len(live)], stream)
        elif what == "s":
            a.synchronize(stream)
        elif what == "e":
            a.empty_cache()
        after_each(live)
    return live


def chains(a, live):
    """Return every segment as the list of its blocks, by address."""
    known = [*live, *a._pending]
    for pool in a.pools():
        known += pool.free_blocks() + [block for _, block in pool.unmapped]
    heads = {}
    for block in known:
        while block.prev is not None:
            block = block.prev
        heads[id(block)] = block
    found = []
    for block in heads.values():
        chain = [block]
        while chain[-1].next is not None:
            assert chain[-1].next.prev is chain[-1]
            chain.append(chain[-1].next)
        found.append(chain)
    assert sum(map(len, found)) == len({id(b) for b in known}), "a block is in no list, or in two"
    return sorted(found, key=lambda chain: chain[0].address)


def check(a, live):
    mapped = 0
    end = 0
    for chain in chains(a, live):
        for block in chain:
            assert block.size > 0 and block.size % 512 == 0
            assert block.address >= end, "blocks overlap"
            assert block is chain[0] or block.address == end, "a hole in a segment"
            end = block.address + block.size
            mapped += block.size if block.state != UNMAPPED else 0
        pairs = itertools.pairwise(chain)
        assert not any(
            one.state == two.state and one.state in (FREE, UNMAPPED) for one, two in pairs
        ), "free neighbours are not joined"
    assert mapped == a.reserved_bytes, "the blocks are not what is reserved"
    assert sum(block.size for block in live) == a.allocated_bytes
    assert a.requested_bytes <= a.active_bytes <= a.reserved_bytes <= a.peak_reserved_bytes
    assert a.allocated_bytes <= a.active_bytes <= a.peak_active_bytes
    assert a.capacity_bytes is None or a.reserved_bytes <= a.capacity_bytes
    # A fraction is compared with the segment, and pages are mapped whole.
    slack = a.settings.large_segment_bytes - 1 if a.settings.expandable_segments else 0
    assert a.allowed_bytes is None or a.reserved_bytes <= a.allowed_bytes + slack


def invariants(text, steps, cap, fraction):
    allowed = int(cap * 0.75) if cap and fraction else None
    a, again = (allocator(text, cap, allowed=allowed) for _ in range(2))
    live = play(a, steps, lambda blocks: check(a, blocks))
    play(again, steps)
    assert again.statistics() == a.statistics(), "not deterministic"
    for block in live:
        a.free(block)
    assert a.allocated_bytes == 0
    a.empty_cache()
    check(a, [])
    assert a.statistics().reserved_bytes == a.active_bytes == a.requested_bytes == 0
    assert a.segments == 0


@given(TEXTS, STEPS, CAPS, st.booleans())
def test_invariants(text, steps, cap, fraction):
    invariants(text, steps, cap, fraction)


@given(STEPS, CAPS)
def test_the_cap_that_is_found_runs(steps, cap):
    events, keys = [], []
    for number, (what, index, nbytes, stream) in enumerate(steps):
        if what == "a":
            events.append((False, number, nbytes, stream))
            keys.append(number)
        elif what == "f" and keys:
            events.append((True, keys.pop(index % len(keys)), 0))
    settings = AllocatorSettings(expandable_segments=cap is not None)
    found = smallest_cap(events, settings)
    assert found % (2 * MIB) == 0 and replay(events, settings, found).fits
    assert found == 0 or not replay(events, settings, found - 2 * MIB).fits


def test_blocks_are_what_allocate_returns():
    assert isinstance(allocator().allocate(1), Block)


def test_reset_peaks():
    a = allocator()
    a.free(a.allocate(12 * MIB))
    a.reset_peaks()
    stats = a.statistics()
    assert stats.peak_allocated_bytes == stats.peak_requested_bytes == stats.peak_active_bytes == 0
    assert (stats.peak_reserved_bytes, stats.peak_segments) == (12 * MIB, 1)
