"""The caching allocator under a cap, over streams and with expandable segments, rule by rule.

Where a test names a function, it is the one of ``c10/cuda/CUDACachingAllocator.cpp`` (pytorch).
"""

from __future__ import annotations

import pytest

from torchgauge.errors import SimulatedOutOfMemoryError
from torchgauge.estimate.memory.allocator import AllocatorSettings, CachingAllocator

MIB = 1 << 20


def allocator(text="", capacity=None, *, release="2.13", allowed=None):
    return CachingAllocator(AllocatorSettings.parse(text, release), capacity, allowed_bytes=allowed)


def counters(a):
    """Allocated, reserved bytes and segments: what most tests look at."""
    return a.allocated_bytes, a.reserved_bytes, a.segments


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
    assert a.retries == 2


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
