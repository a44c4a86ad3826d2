"""A recorded step through the allocator, and the smallest cap under which it runs."""

from __future__ import annotations

import time

import pytest

from torchgauge.estimate.memory.allocator import AllocatorSettings, replay, smallest_cap

MIB = 1 << 20


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
    assert result.retries == 0
    assert replay(events).allocated_after == ()


def test_replay_can_start_its_peaks_late():
    """As torch.cuda.reset_peak_memory_stats before that event."""
    events = [*events_of(30 * MIB, 4 * MIB), (True, 0, 0), (False, 9, 2 * MIB)]
    result = replay(events, peaks_from=3, record=True)
    assert result.peak_allocated_bytes == 6 * MIB and result.peak_reserved_bytes == 50 * MIB
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


@pytest.mark.timed
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
    assert replay(events, settings, allowed_bytes=42 * MIB).peak_reserved_bytes == 60 * MIB


def test_no_events_need_no_memory():
    assert smallest_cap([]) == 0 and replay([]).peak_reserved_bytes == 0
