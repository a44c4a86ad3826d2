"""The counters of the allocator, under torch's own names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorStatistics:
    """What ``torch.cuda.memory_stats`` would say, the sums over both pools."""

    requested_bytes: int
    """Bytes asked for by live blocks (``requested_bytes.all``)."""
    peak_requested_bytes: int
    allocated_bytes: int
    """Sizes of live blocks, with rounding and unsplit slack (``torch.cuda.memory_allocated``)."""
    peak_allocated_bytes: int
    active_bytes: int
    """The same and freed blocks that another stream still uses (``active_bytes.all``)."""
    peak_active_bytes: int
    reserved_bytes: int
    """Segments and mapped pages (``torch.cuda.memory_reserved``)."""
    peak_reserved_bytes: int
    segments: int
    """Segments from ``cudaMalloc``; expandable ones are not counted, as torch does not."""
    peak_segments: int
    retries: int
    """Times that everything cached was released to try again (``num_alloc_retries``)."""
    out_of_memory_events: int
    """Times that this did not help (``num_ooms``)."""
