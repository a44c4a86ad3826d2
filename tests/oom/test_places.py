"""The allocation that failed: messages of torch's own allocator, found in their step and no other.

Source: ``benchmarks/allocator_truth/ooms.py record``. ``ooms.py check`` compares all of them with
all changed steps; here a part of that, because each step has to be traced.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import groupby

import pytest
from benchmarks.allocator_truth.ooms import MESSAGES, STEPS, found, traced

from torchgauge.estimate.memory.allocator import AllocatorSettings, replay
from torchgauge.facts.trace import Phase
from torchgauge.oom.message import read_message
from torchgauge.oom.places import find_places

HEAD, *RECORDS = json.loads(MESSAGES.read_text())
BY_STEP = {step: list(items) for step, items in groupby(RECORDS, key=lambda item: item["step"])}


@pytest.mark.parametrize("step", BY_STEP)
def test_the_allocation_that_failed_is_found(step):
    trace = traced(STEPS[step])[0]
    if trace.torch_version.partition("+")[0] != HEAD["traced_with"].partition("+")[0]:
        pytest.skip("the steps were recorded with another version of torch")
    for item in BY_STEP[step]:
        places = found(STEPS[step], item["message"]).found
        assert places and places[0].event == item["event"]
        assert places[0].is_exact


def test_there_are_thirty_messages_of_ten_steps():
    assert len(RECORDS) == 30
    assert len(BY_STEP) == len(STEPS)


def _own(share: float) -> tuple[int, str]:
    """Return the event and the message of the first step under a share of what it needs."""
    _, loop, gpu = traced(STEPS[0])
    capacity = int(replay(loop.events, gpu.settings).peak_reserved_bytes * share)
    out = replay(loop.events, gpu.settings, capacity).out_of_memory
    assert out is not None
    mib = 1 << 20
    return out.event, (
        f"CUDA out of memory. Tried to allocate {out.segment_bytes / mib:.2f} MiB. GPU 0 has a "
        f"total capacity of {capacity / mib:.2f} MiB of which "
        f"{(capacity - out.reserved_bytes) / mib:.2f} MiB is free. Of the allocated memory "
        f"{out.allocated_bytes / mib:.2f} MiB is allocated by PyTorch, and "
        f"{(out.reserved_bytes - out.allocated_bytes) / mib:.2f} MiB is reserved by PyTorch but "
        "unallocated."
    )


def test_with_another_batch_nothing_matches():
    _, text = _own(0.7)
    places = found(replace(STEPS[0], batch=24), text)
    assert places.found == ()
    assert places.reason


def test_a_size_that_occurs_with_other_bytes_allocated_does_not_match():
    _, text = _own(0.7)
    allocated = read_message(text).allocated.middle
    wrong = text.replace(f"{allocated / (1 << 20):.2f} MiB is allocated", "12.00 MiB is allocated")
    assert wrong != text
    assert "other amounts" in found(STEPS[0], wrong).reason


def test_a_limit_under_which_it_runs_does_not_match():
    _, text = _own(0.7)
    start, _, end = text.partition(" of which ")
    free = f"{start} of which 9.00 GiB is free.{end.partition('is free.')[2]}"
    assert "fails elsewhere or runs" in found(STEPS[0], free).reason


def test_the_traceback_excludes_other_phases():
    event, text = _own(0.7)
    trace, loop, gpu = traced(STEPS[0])
    message = read_message(text)
    own = trace.ops[loop.origins[event]].phase
    for phase in Phase:
        places = find_places(trace, loop, gpu.settings, replace(message, phase=phase))
        assert bool(places.found) is (phase is own)


def test_an_allocator_without_a_cache_is_compared_by_the_request_alone():
    trace, loop, _ = traced(STEPS[0])
    after = replay(loop.events, AllocatorSettings(), record=True).allocated_after
    limit = int(0.7 * max(after))
    event = next(index for index, nbytes in enumerate(after) if nbytes > limit)
    nbytes, before = loop.events[event][2], after[event - 1]
    text = (
        "Allocation on device 0 would exceed allowed memory. (out of memory)\n"
        f"Currently allocated : {before} bytes\nRequested : {nbytes} bytes\n"
        f"Device limit : {limit} bytes\nFree (according to CUDA): {limit - before} bytes"
    )
    places = find_places(trace, loop, AllocatorSettings(), read_message(text))
    assert [place.event for place in places.found] == [event]
