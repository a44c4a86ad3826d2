"""What holds for the allocator after every step of any program."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from torchgauge.errors import SimulatedOutOfMemoryError
from torchgauge.estimate.memory.allocator import (
    AllocatorSettings,
    CachingAllocator,
    replay,
    smallest_cap,
)
from torchgauge.estimate.memory.allocator.blocks import FREE, UNMAPPED

MIB = 1 << 20


def allocator(text="", capacity=None, *, release="2.13", allowed=None):
    return CachingAllocator(AllocatorSettings.parse(text, release), capacity, allowed_bytes=allowed)


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


def counters_of(a):
    return {name: value for name, value in vars(a).items() if isinstance(value, int)}


def invariants(text, steps, cap, fraction):
    allowed = int(cap * 0.75) if cap and fraction else None
    a, again = (allocator(text, cap, allowed=allowed) for _ in range(2))
    live = play(a, steps, lambda blocks: check(a, blocks))
    play(again, steps)
    assert counters_of(again) == counters_of(a), "not deterministic"
    for block in live:
        a.free(block)
    assert a.allocated_bytes == 0
    a.empty_cache()
    check(a, [])
    assert a.reserved_bytes == a.active_bytes == a.requested_bytes == 0
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
