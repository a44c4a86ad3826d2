"""How far a GPU's figures may lie apart where the truth is not determined.

Two things are not: what cuDNN takes for a convolution, and the CUDA context. The ends are the
same step without any workspace of convolutions and with twice the expected ones, on top of the
smallest and the largest context that public figures allow.
"""

from __future__ import annotations

from torchgauge.estimate.memory.allocator import replay, smallest_cap
from torchgauge.estimate.memory.gpu import Gpu, loop_of
from torchgauge.facts.memory import MemoryEstimate
from torchgauge.facts.trace import Trace

_SCALES = (0, 2)
"""Of the expected workspaces."""


def intervals_on_gpu(trace: Trace, gpu: Gpu, memory: MemoryEstimate) -> dict[str, tuple[int, int]]:
    """Return by figure the least and the most bytes; each interval holds the expected figure."""
    assert memory.peak_reserved_bytes is not None and memory.minimum_bytes is not None
    allocated, reserved, minimum = (
        [memory.peak_allocated_bytes], [memory.peak_reserved_bytes], [memory.minimum_bytes]
    )  # fmt: skip
    if any("convolution" in op.name for op in trace.ops):
        for scale in _SCALES:
            loop = loop_of(trace, gpu, convolutions=scale)
            free_run = replay(loop.events, gpu.settings, peaks_from=loop.starts[-1], record=True)
            allocated.append(free_run.peak_allocated_bytes)
            reserved.append(_reserved(max(free_run.reserved_after, default=0), gpu))
            minimum.append(smallest_cap(loop.events, gpu.settings))
    contexts = gpu.context_interval or (gpu.context_bytes, gpu.context_bytes)
    return {
        "peak_allocated_bytes": (min(allocated), max(allocated)),
        "peak_reserved_bytes": (min(reserved), max(reserved)),
        "context_bytes": contexts,
        "device_bytes": (min(reserved) + contexts[0], max(reserved) + contexts[1]),
        "minimum_bytes": (min(minimum), max(minimum)),
    }


def _reserved(free_run: int, gpu: Gpu) -> int:
    """Return what is reserved at most: the allocator lets go of its cache at the limit."""
    return free_run if gpu.capacity_bytes is None else min(free_run, max(gpu.capacity_bytes, 0))
