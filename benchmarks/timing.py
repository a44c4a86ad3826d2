"""Time things so that ratios mean something on a shared machine."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable


def seconds(function: Callable[[], object]) -> float:
    """Return the wall-clock seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def least_cpu_seconds(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return each function's fewest seconds on the CPU; they take turns.

    For ratios of short calls in one thread: neither waiting nor other programs' work is in them.
    """
    for function in functions.values():
        function()
    least = dict.fromkeys(functions, float("inf"))
    for _ in range(repeats):
        for name, function in functions.items():
            gc.collect()
            start = time.process_time()
            function()
            least[name] = min(least[name], time.process_time() - start)
    return least


def interleaved_medians(
    functions: dict[str, Callable[[], object]], repeats: int
) -> dict[str, float]:
    """Return each function's median seconds; they take turns, so that load hits all alike.

    Every function runs once before the clock starts.
    """
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            gc.collect()
            times[name].append(seconds(function))
    return {name: statistics.median(values) for name, values in times.items()}
