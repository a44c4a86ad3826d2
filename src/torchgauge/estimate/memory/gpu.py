"""What a step occupies on a GPU: tensors and workspaces through the caching allocator.

The step is repeated as a training loop would (``steps.py``) and replayed through a model of
PyTorch's allocator (``allocator``). Allocated is what ``torch.cuda.max_memory_allocated`` reports
for the last of the steps, reserved what ``max_memory_reserved`` reports for all of them; what the
device shows has the CUDA context on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from torchgauge.estimate.memory.alive import largest_alive
from torchgauge.estimate.memory.allocator import (
    AllocatorResult,
    AllocatorSettings,
    replay,
    smallest_cap,
)
from torchgauge.estimate.memory.cuda_overheads import cublas_workspace_bytes
from torchgauge.estimate.memory.steps import Loop, repeat
from torchgauge.estimate.memory.workspaces import Platform, workspaces_for
from torchgauge.facts.memory import MemoryEstimate, TimelinePoint
from torchgauge.facts.trace import Phase, Role, Trace

STEPS: Final = 3
"""The first makes the optimizer's states, the second finds them, the third is like all later."""
_MATRIX_PRODUCTS: Final = frozenset(
    f"aten.{name}.default" for name in ("mm", "addmm", "bmm", "baddbmm", "addmv", "mv", "addbmm")
)
"""Operators that call cuBLAS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """What of a GPU and its software decides about memory."""

    platform: Platform
    settings: AllocatorSettings
    usable_bytes: int | None = None
    """Memory that the driver reports; ``None`` for no limit."""
    context_bytes: int = 0
    context_interval: tuple[int, int] | None = None
    """The least and the most that the context may take; ``None`` where it is taken as it is."""

    @property
    def capacity_bytes(self) -> int | None:
        """Return what the caching allocator can get."""
        return None if self.usable_bytes is None else self.usable_bytes - self.context_bytes


def loop_of(trace: Trace, gpu: Gpu, steps: int | None = None, *, convolutions: int = 1) -> Loop:
    """Return the allocations of the steps of a scenario on that GPU.

    The expected workspaces of convolutions are taken ``convolutions`` times, so 0 leaves them out.
    """
    if steps is None:
        steps = 1 if trace.scenario.first_step else STEPS
    platform = gpu.platform
    return repeat(
        trace,
        steps,
        workspaces_for(platform, convolutions=convolutions),
        lasting=_cublas_workspaces(trace, platform),
    )


def estimate_on_gpu(
    trace: Trace, gpu: Gpu, tensors: MemoryEstimate, *, steps: int | None = None
) -> MemoryEstimate:
    """Return the memory of a step on a GPU; ``tensors`` is what its tensors take.

    ``steps`` says how often it is repeated where that is not what a training loop does.

    Assumes: nothing else uses the device, and one stream is used.
    """
    loop = loop_of(trace, gpu, steps)
    last = loop.starts[-1]
    free_run = replay(loop.events, gpu.settings, peaks_from=last, record=True)
    event = _peak_event(free_run, last)
    at_peak, alive = _alive_at(trace, loop, event, free_run.allocated_after[event])
    capped = _under_the_limit(loop, gpu, free_run)
    reserved = capped.peak_reserved_bytes if capped.fits else free_run.peak_reserved_bytes
    phase, module, op = _where(trace, loop.origins[event])
    return replace(
        tensors,
        peak_allocated_bytes=free_run.allocated_after[event],
        peak_phase=phase,
        peak_module=module,
        peak_op=op,
        at_peak=at_peak,
        timeline=_timeline(trace, loop, free_run),
        alive_at_peak=largest_alive(trace, alive),
        peak_reserved_bytes=reserved,
        context_bytes=gpu.context_bytes,
        device_bytes=reserved + gpu.context_bytes,
        minimum_bytes=smallest_cap(loop.events, gpu.settings),
        capacity_bytes=gpu.usable_bytes,
        fits=capped.fits if gpu.usable_bytes is not None else None,
    )


def _under_the_limit(loop: Loop, gpu: Gpu, free_run: AllocatorResult) -> AllocatorResult:
    """Replay under the device's memory where the steps would take more than it has."""
    capacity = gpu.capacity_bytes
    reserved = max(free_run.reserved_after, default=0)
    if capacity is None or reserved <= capacity:
        return replace(free_run, peak_reserved_bytes=reserved)
    return replay(loop.events, gpu.settings, max(capacity, 0))


def _peak_event(result: AllocatorResult, first: int) -> int:
    """Return the earliest event of the last step after which most is allocated."""
    candidates = range(first, len(result.allocated_after))
    return max(candidates, key=result.allocated_after.__getitem__)


def _alive_at(
    trace: Trace, loop: Loop, event: int, allocated: int
) -> tuple[dict[Role, int], list[int]]:
    """Return the bytes alive per role, and the storages.

    The bytes sum to what is allocated, with the rounding.
    """
    alive: dict[int, tuple[int, int]] = {}
    for (is_free, key, nbytes), storage in zip(
        loop.events[: event + 1], loop.storages[: event + 1], strict=True
    ):
        if is_free:
            alive.pop(key, None)
        else:
            alive[key] = storage, nbytes
    roles = dict.fromkeys(Role, 0)
    storages = [storage for storage, _ in alive.values() if storage >= 0]
    for storage, nbytes in alive.values():
        role = trace.storages[storage].role if storage >= 0 else Role.WORKSPACE
        roles[role] += nbytes
    roles[Role.ROUNDING] = allocated - sum(roles.values())
    return {role: nbytes for role, nbytes in roles.items() if nbytes}, storages


def _where(trace: Trace, op: int) -> tuple[Phase, str, str]:
    if not 0 <= op < len(trace.ops):
        return Phase.FORWARD, "", ""
    record = trace.ops[op]
    path = trace.calls[record.call].path if record.call >= 0 else ""
    return record.phase, path, record.name


def _timeline(trace: Trace, loop: Loop, result: AllocatorResult) -> tuple[TimelinePoint, ...]:
    """Return the most bytes allocated during each op of the last step that changed them."""
    points: list[TimelinePoint] = []
    start = loop.starts[-1]
    before = result.allocated_after[start - 1] if start else 0
    points.append(TimelinePoint(op=-1, phase=Phase.FORWARD, live_bytes=before))
    for index in range(start, len(loop.events)):
        op, live = loop.origins[index], result.allocated_after[index]
        if points[-1].op == op:
            if live > points[-1].live_bytes:
                points[-1] = replace(points[-1], live_bytes=live)
        elif live != points[-1].live_bytes:
            phase = trace.ops[op].phase if 0 <= op < len(trace.ops) else points[-1].phase
            points.append(TimelinePoint(op=op, phase=phase, live_bytes=live))
    return tuple(points)


def _cublas_workspaces(trace: Trace, platform: Platform) -> Mapping[int, int]:
    """Return the workspace of each cuBLAS handle by the op that makes it.

    Handles belong to threads, and the backward of a device has a thread of its own.
    """
    size = cublas_workspace_bytes(platform.torch_release, platform.compute_capability)
    found: dict[bool, int] = {}
    for op in trace.ops:
        if op.name in _MATRIX_PRODUCTS:
            found.setdefault(op.phase is Phase.BACKWARD, op.index)
            if len(found) == 2:
                break
    return dict.fromkeys(found.values(), size)
