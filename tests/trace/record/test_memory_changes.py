"""What the profiler says of memory: frees of what was there before a profile do not count."""

from __future__ import annotations

import pytest
import torch

from torchgauge.trace.torch_internals.profiler import memory_changes

SIZE = 16_000_000  # so large that the system is asked for it, which gives the same place again


def profiler() -> torch.autograd.profiler.profile:
    return torch.autograd.profiler.profile(profile_memory=True)


def test_what_is_allocated_and_freed_inside_is_seen_in_order() -> None:
    with profiler() as seen:
        first = torch.empty(SIZE)
        second = torch.empty(2 * SIZE)
        del first
    assert [size for _, size in memory_changes(seen)] == [4 * SIZE, 8 * SIZE, -4 * SIZE]
    assert second.shape == (2 * SIZE,)


def test_a_block_at_the_address_of_one_that_an_earlier_profile_saw_is_not_seen_freed() -> None:
    """The profiler keeps the size of what it saw allocated until it sees that freed."""
    for _ in range(20):
        with profiler() as earlier:
            block = torch.empty(SIZE)
        assert [size for _, size in memory_changes(earlier)] == [4 * SIZE]
        address = block.data_ptr()
        del block
        others = [torch.empty(SIZE) for _ in range(10)]
        there = [i for i, other in enumerate(others) if other.data_ptr() == address]
        if there:
            break
    else:
        pytest.skip("the system gives the address to nobody else")
    with profiler() as seen:
        del others[there[0]]
    events = [e for e in seen.kineto_results.events() if e.name() == "[memory]"]
    assert [event.nbytes() for event in events] == [-4 * SIZE]  # why what it says is not taken
    assert memory_changes(seen) == []
