"""Marks that the profiler sees: module calls, and where phases end."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from torchgauge.measure.step import RealStep
from torchgauge.trace.record.kernel_memory import quiet_profiler
from torchgauge.trace.torch_internals.autograd import next_sequence_nr
from torchgauge.trace.torch_internals.profiler import profiler_range

MARK = "torchgauge:"
NODE = "autograd::engine::evaluate_function: "
OUTSIDE = -1


class CallMarks:
    """Wraps the forwards of a copy so that the profiler sees each module call as an event."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._stack: list[int] = []
        self._boundaries = [0]
        self._boundary_calls = [OUTSIDE]

    def wrap(self, path: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        """Return a forward that marks each call of ``inner``."""

        def forward(*args: Any, **kwargs: Any) -> Any:
            index = len(self.paths)
            self.paths.append(path)
            self._enter(index)
            try:
                with profiler_range(f"{MARK}{index}"):
                    return inner(*args, **kwargs)
            finally:
                self._leave()

        forward.__wrapped__ = inner  # type: ignore[attr-defined]  # signatures follow it
        return forward

    def clear(self) -> None:
        """Forget the calls of the step before."""
        self.paths.clear()
        self._stack.clear()
        self._boundaries[:] = [0]
        self._boundary_calls[:] = [OUTSIDE]

    def call_of_node(self, sequence_nr: int) -> int:
        """Return the call in whose forward a backward node was made."""
        return self._boundary_calls[bisect_right(self._boundaries, sequence_nr) - 1]

    def _enter(self, index: int) -> None:
        self._stack.append(index)
        self._boundaries.append(next_sequence_nr())
        self._boundary_calls.append(index)

    def _leave(self) -> None:
        self._stack.pop()
        self._boundaries.append(next_sequence_nr())
        self._boundary_calls.append(self._stack[-1] if self._stack else OUTSIDE)


def mark(name: str) -> None:
    """Leave an empty event: a phase lasts from the end of the one before it."""
    with profiler_range(f"{MARK}{name}"):
        pass


@contextmanager
def profiled(step: RealStep, *, memory: bool = False) -> Iterator[profile]:
    """Run the profiler over what the caller does with a step, until the device is done."""
    on_gpu = step.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with quiet_profiler(), profile(activities=activities, profile_memory=memory) as profiler:
        yield profiler
        if on_gpu:
            torch.cuda.synchronize(step.device)
