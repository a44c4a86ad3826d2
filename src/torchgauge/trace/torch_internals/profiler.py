"""PyTorch's profiler: whether it runs, and what it says of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def profiler_is_on() -> bool:
    """Return whether a profiler runs in this thread (``torch._C._autograd``: 2.6–2.13)."""
    on: bool = torch._C._autograd._profiler_enabled()
    return on


def memory_events(run: Callable[[], None]) -> list[int]:
    """Run a function; return the bytes allocated (positive) and freed meanwhile, in order.

    ``torch.autograd.profiler.profile.kineto_results``: 2.6–2.13.
    """
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        run()
    results: Any = profiler.kineto_results
    found = [event for event in results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(found, key=lambda event: event.start_ns())]


def profiler_range(name: str) -> Any:
    """Return a context manager that the profiler shows as one event of that name.

    ``torch._C._profiler._RecordFunctionFast`` (2.6–2.13) costs a microsecond; the public
    ``record_function`` calls two operators, which would show up among those of the model.
    """
    fast = getattr(torch._C._profiler, "_RecordFunctionFast", None)
    return torch.profiler.record_function(name) if fast is None else fast(name)
