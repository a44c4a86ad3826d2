"""PyTorch's profiler: whether it runs, and what it says of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_Allocation: Any = torch._C._profiler._ExtraFields_Allocation


def profiler_is_on() -> bool:
    """Return whether a profiler runs in this thread (``torch._C._autograd``: 2.6–2.13)."""
    on: bool = torch._C._autograd._profiler_enabled()
    return on


def memory_events(run: Callable[[], None]) -> list[int]:
    """Run a function; return the bytes allocated (positive) and freed meanwhile, in order."""
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        run()
    return [size for _, size in memory_changes(profiler)]


def memory_changes(profiler: torch.autograd.profiler.profile) -> list[tuple[int, int]]:
    """Return when (ns) a profiler that has ended saw bytes allocated (positive) or freed.

    What was there before is not seen freed. The profiler knows no size of it, and where it does
    say one, that is of another block: one of an earlier profile at the same address, whose end
    came after that profile's. ``kineto_results.experimental_event_tree``: 2.6–2.13.
    """
    results: Any = profiler.kineto_results
    found: list[tuple[int, int, int]] = []
    waiting = list(results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if isinstance(event.extra_fields, _Allocation):
            found.append((event.start_time_ns, event.extra_fields.alloc_size,
                          event.extra_fields.ptr))  # fmt: skip
    held: set[int] = set()
    changes = []
    for time, size, address in sorted(found, key=lambda event: event[0]):
        if size > 0:
            held.add(address)
        elif address in held:
            held.remove(address)
        else:
            continue
        changes.append((time, size))
    return changes


def profiler_range(name: str) -> Any:
    """Return a context manager that the profiler shows as one event of that name.

    ``torch._C._profiler._RecordFunctionFast`` (2.6–2.13) costs a microsecond; the public
    ``record_function`` calls two operators, which would show up among those of the model.
    """
    fast = getattr(torch._C._profiler, "_RecordFunctionFast", None)
    return torch.profiler.record_function(name) if fast is None else fast(name)
