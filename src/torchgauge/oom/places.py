"""Find the allocation that failed: by size, by what was allocated, and by a replay that fails.

Two figures alone would find a place in nearly every step, because what is allocated passes through
every value on its way to the peak. So a place counts only where the caching allocator, given the
memory that the message states, fails there and nowhere before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from torchgauge.estimate.memory.allocator import (
    AllocatorSettings,
    CachingAllocator,
    OutOfMemory,
    replay,
)
from torchgauge.estimate.memory.allocator.blocks import SMALL_SEGMENT
from torchgauge.estimate.memory.loop import Loop
from torchgauge.facts.loop.oom import OomMessage, StatedBytes
from torchgauge.facts.trace import Phase, Trace

TOLERANCE: Final = 0.03
"""How far what is allocated may lie from the message's figure, as a share."""
COMMON_TOLERANCE: Final = 0.005
"""The same for a segment of 2 or 20 MiB, which all small requests share and which says little."""
UNALLOCATED_TOLERANCE: Final = 0.01
"""How far what is reserved and not allocated may lie from the message's, as a share of reserved."""
MOST_TRIED: Final = 64
"""Candidates that are replayed, the nearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An allocation of the loop that fails as the message says."""

    event: int
    segment_bytes: int
    allocated_bytes: int
    is_exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """All that match, the likeliest first, or why none does."""

    found: tuple[Place, ...]
    reason: str = ""


def find_places(
    trace: Trace, loop: Loop, settings: AllocatorSettings, message: OomMessage
) -> Places:
    """Return the allocations of a loop that fail as the message says.

    Where some agree with the message to its last digit, the others are left out; likewise where
    some are of the traceback's phase and function.
    """
    sized = list(_of_that_size(loop, settings, message))
    if not sized:
        return Places(found=(), reason="no allocation of the step asks for that much")
    near = [place for place in sized if _is_near(place, message, settings)]
    if not near:
        return Places(found=(), reason="where it asks for that much, other amounts are allocated")
    if message.phase is not None:
        near = [place for place in near if _phase(trace, loop, place) is message.phase]
        if not near:
            return Places(found=(), reason=f"it asks for that much, but not in the {message.phase}")
    near.sort(key=lambda place: abs(place.allocated_bytes - message.allocated.middle))
    tried = [_failing(loop, settings, message, place) for place in near[:MOST_TRIED]]
    failing = [place for place in tried if place is not None]
    if not failing:
        return Places(
            found=(), reason="under the memory that the message states, it fails elsewhere or runs"
        )
    exact = [place for place in failing if place.is_exact]
    best = exact or failing
    named = [place for place in best if _is_named(trace, loop, place, message)]
    return Places(found=tuple(named or best))


def _of_that_size(loop: Loop, settings: AllocatorSettings, message: OomMessage) -> Iterator[Place]:
    """Yield the allocations that ask the device for what the message says."""
    allocator = CachingAllocator(settings)
    after = replay(loop.events, settings, record=True).allocated_after
    segments: dict[int, int] = {}
    for index, (is_free, _, nbytes) in enumerate(loop.events):
        if is_free or not nbytes:
            continue
        segment = nbytes
        if not message.asks_exactly:
            if nbytes not in segments:
                segments[nbytes] = allocator.segment_size(allocator.round_size(nbytes))
            segment = segments[nbytes]
        if message.tried.holds(segment):
            allocated = after[index - 1] if index else 0
            yield Place(
                event=index,
                segment_bytes=segment,
                allocated_bytes=allocated,
                is_exact=message.allocated.holds(allocated),
            )


def _is_near(place: Place, message: OomMessage, settings: AllocatorSettings) -> bool:
    stated, common = message.allocated, (SMALL_SEGMENT, settings.large_segment_bytes)
    is_common = place.segment_bytes in common and not message.asks_exactly
    share = COMMON_TOLERANCE if is_common else TOLERANCE
    return stated.least * (1 - share) <= place.allocated_bytes <= stated.most * (1 + share)


def _failing(
    loop: Loop, settings: AllocatorSettings, message: OomMessage, place: Place
) -> Place | None:
    """Return the place as the allocator fails there, given the memory that the message states.

    Where it does not, the memory is moved by what the prediction of the allocated bytes is off, so
    that an operator whose scratch memory is not quite known does not move the place.
    """
    off = place.allocated_bytes - message.allocated.middle
    if message.asks_exactly:
        return place if _exceeds(loop, settings, message, place, off) else None
    available = message.available
    if available is None and message.allowed is None:
        return place  # the message does not say under which limit
    events = loop.events[: place.event + 1]
    for capacity, moved in _limits(available, off):
        allowed = None if message.allowed is None else message.allowed.middle + moved
        failed = replay(events, settings, capacity, allowed_bytes=allowed).out_of_memory
        if failed is None or failed.event != place.event:
            continue
        allocated, reserved = failed.allocated_bytes, message.reserved
        is_exact = message.allocated.holds(allocated) and (
            reserved is None or reserved.holds(failed.reserved_bytes)
        )
        if is_exact or _is_as_cut_up(failed, message):
            return replace(place, allocated_bytes=allocated, is_exact=is_exact)
    return None


def _is_as_cut_up(failed: OutOfMemory, message: OomMessage) -> bool:
    """Return whether about as much lies between the tensors as the message says."""
    if message.reserved is None:
        return True
    stated = message.reserved.middle - message.allocated.middle
    unallocated = failed.reserved_bytes - failed.allocated_bytes
    return abs(unallocated - stated) <= UNALLOCATED_TOLERANCE * message.reserved.middle


def _limits(available: StatedBytes | None, off: int) -> Iterator[tuple[int | None, int]]:
    """Yield the memory to try, and by how much it was moved."""
    for moved in (0, off) if off else (0,):
        if available is None:
            yield None, moved
            continue
        for nbytes in (available.middle, available.least, available.most):
            yield max(nbytes + moved, 0), moved


def _exceeds(
    loop: Loop, settings: AllocatorSettings, message: OomMessage, place: Place, off: int
) -> bool:
    """Return whether it is the first allocation that does not fit without a cache."""
    available = message.available
    if available is None:
        return True
    limit = available.middle + off
    after = replay(loop.events[: place.event + 1], settings, record=True).allocated_after
    return after[-1] > limit and max(after[:-1], default=0) <= limit


def _phase(trace: Trace, loop: Loop, place: Place) -> Phase | None:
    op = loop.origins[place.event]
    return trace.ops[op].phase if 0 <= op < len(trace.ops) else None


def _is_named(trace: Trace, loop: Loop, place: Place, message: OomMessage) -> bool:
    """Return whether the traceback's line or function is that of the allocation."""
    storage, op = loop.storages[place.event], loop.origins[place.event]
    code = trace.storages[storage].code if storage >= 0 else ""
    if code and message.lines:
        return any(line == code or line.endswith(f"/{code}") for line in message.lines)
    if not message.operator or not 0 <= op < len(trace.ops):
        return False
    name = trace.ops[op].name.split(".")[1].strip("_")
    asked = message.operator.strip("_")
    return name.startswith(asked) or asked.startswith(name)
