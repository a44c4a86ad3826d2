"""A recorded sequence of allocations and frees, run through the model of the allocator."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from torchgauge.errors import SimulatedOutOfMemoryError
from torchgauge.estimate.memory.allocator.blocks import MIB, Block
from torchgauge.estimate.memory.allocator.caching import CachingAllocator
from torchgauge.estimate.memory.allocator.settings import AllocatorSettings

MemoryEvent = tuple[bool, Hashable, int] | tuple[bool, Hashable, int, int]
"""``(is_free, key, nbytes)`` or ``(is_free, key, nbytes, stream)``.

The key names the storage from its allocation to its free; it may be used again afterwards. The
size and the stream of a free are not looked at. The stream is 0 where it is not given.
"""

EMPTY_CACHE: Final = -(1 << 62)
"""The key of the event ``(True, EMPTY_CACHE, 0)``: ``torch.cuda.empty_cache()``."""
CAP_STEP: Final = 2 * MIB
"""Segments are multiples of it, so caps in between change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfMemory:
    """Where a replay ran out of memory."""

    event: int
    """Index of the allocation that failed."""
    requested_bytes: int
    segment_bytes: int
    free_bytes: int
    reserved_bytes: int
    allocated_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorResult:
    """What the allocator held over a replay; up to the failure where there was one."""

    events: int
    """Events that were replayed."""
    peak_requested_bytes: int
    peak_allocated_bytes: int
    peak_active_bytes: int
    peak_reserved_bytes: int
    retries: int
    out_of_memory: OutOfMemory | None = None
    allocated_after: tuple[int, ...] = ()
    """Allocated bytes after each event, when asked for."""
    reserved_after: tuple[int, ...] = ()
    """Reserved bytes after each event, when asked for."""

    @property
    def fits(self) -> bool:
        """Whether every allocation was served."""
        return self.out_of_memory is None


def replay(
    events: Sequence[MemoryEvent],
    settings: AllocatorSettings | None = None,
    capacity_bytes: int | None = None,
    *,
    allowed_bytes: int | None = None,
    peaks_from: int = 0,
    record: bool = False,
) -> AllocatorResult:
    """Run allocations and frees through a new allocator.

    Args:
        events: what happened, in order.
        settings: the allocator's settings; torch's defaults if not given.
        capacity_bytes: what the device can give to the allocator; ``None``: no limit.
        allowed_bytes: the limit of ``set_per_process_memory_fraction``, in bytes.
        peaks_from: index of the event before which the peaks start afresh, as
            ``torch.cuda.reset_peak_memory_stats`` there would make them.
        record: keep the allocated and reserved bytes after each event.

    Raises:
        ValueError: when a key is allocated twice or freed without being allocated.
    """
    allocator = CachingAllocator(settings, capacity_bytes, allowed_bytes=allowed_bytes)
    run = _Run(allocator, record)
    failure = run.play(events, 0, peaks_from)
    if failure is None:
        allocator.reset_peaks()
        failure = run.play(events, peaks_from, len(events))
    return run.result(failure)


class _Run:
    """A replay in progress."""

    def __init__(self, allocator: CachingAllocator, record: bool) -> None:
        self.allocator = allocator
        self.record = record
        self.live: dict[Hashable, Block | None] = {}
        self.played = 0
        self.allocated_after: list[int] = []
        self.reserved_after: list[int] = []

    def play(self, events: Sequence[MemoryEvent], first: int, end: int) -> OutOfMemory | None:
        """Play the events from ``first`` to before ``end``; return the failure, if any."""
        allocator, live, record = self.allocator, self.live, self.record
        allocate, free = allocator.allocate, allocator.free
        index = first
        try:
            for index in range(first, end):
                event = events[index]
                key = event[1]
                if key == EMPTY_CACHE:
                    allocator.empty_cache()
                elif event[0]:
                    free(live.pop(key))
                elif key in live:
                    raise ValueError(f"event {index} allocates {key!r}, which is still allocated")
                else:
                    live[key] = allocate(event[2], event[3] if len(event) == 4 else 0)
                if record:
                    self.allocated_after.append(allocator.allocated_bytes)
                    self.reserved_after.append(allocator.reserved_bytes)
        except KeyError as error:
            raise ValueError(
                f"event {index} frees {error.args[0]!r}, which is not allocated"
            ) from None
        except SimulatedOutOfMemoryError as error:
            self.played = index
            return _failure(index, error)
        self.played = end
        return None

    def result(self, failure: OutOfMemory | None) -> AllocatorResult:
        """Return what was seen."""
        allocator = self.allocator
        return AllocatorResult(
            events=self.played,
            peak_requested_bytes=allocator.peak_requested_bytes,
            peak_allocated_bytes=allocator.peak_allocated_bytes,
            peak_active_bytes=allocator.peak_active_bytes,
            peak_reserved_bytes=allocator.peak_reserved_bytes,
            retries=allocator.retries,
            out_of_memory=failure,
            allocated_after=tuple(self.allocated_after),
            reserved_after=tuple(self.reserved_after),
        )


def _failure(index: int, error: SimulatedOutOfMemoryError) -> OutOfMemory:
    return OutOfMemory(
        event=index,
        requested_bytes=error.requested_bytes,
        segment_bytes=error.segment_bytes,
        free_bytes=error.free_bytes,
        reserved_bytes=error.reserved_bytes,
        allocated_bytes=error.allocated_bytes,
    )


def smallest_cap(
    events: Sequence[MemoryEvent],
    settings: AllocatorSettings | None = None,
) -> int:
    """Return a cap under which the events run and below which, one step down, they do not.

    The cap is a multiple of 2 MiB and limits the device (``capacity_bytes``). It is found by
    bisection between the live bytes, below which nothing can run, and the reserved bytes of a run
    without a cap. Both the cap's success and the failure
    one step below it come from a replay. Success is not strictly monotone in the cap (a release
    that a smaller cap forces can leave a better layout behind), so a still smaller cap may
    happen to run as well; every program that is given this one runs.
    """
    settings = settings or AllocatorSettings()

    def runs(steps: int) -> bool:
        return replay(events, settings, steps * CAP_STEP).fits

    low, enough = _bounds(events, settings)
    low //= CAP_STEP
    high = -(-enough // CAP_STEP)
    while not runs(high):
        # A cap makes the allocator collect garbage, which leaves another layout behind.
        low, high = high, high + max(high // 8, settings.large_segment_bytes // CAP_STEP)
    return _bisect(runs, low, high) * CAP_STEP


def _bounds(events: Sequence[MemoryEvent], settings: AllocatorSettings) -> tuple[int, int]:
    """Return a cap just too small for the live blocks and one that is probably enough."""
    free_run = replay(events, settings)
    allocator = CachingAllocator(settings)
    sizes: dict[Hashable, int] = {}
    live = peak = 0
    for event in events:
        if event[0]:
            live -= sizes.pop(event[1], 0)
        else:
            nbytes = event[2]
            sizes[event[1]] = size = allocator.round_size(nbytes) if nbytes else 0
            live += size
            peak = max(peak, live)
    return max(peak - 1, 0), free_run.peak_reserved_bytes


def _bisect(runs: Callable[[int], bool], low: int, high: int) -> int:
    """Return a step that runs and whose predecessor does not; ``high`` is known to run."""
    while high - low > 1:
        middle = (low + high) // 2
        if runs(middle):
            high = middle
        else:
            low = middle
    return high
