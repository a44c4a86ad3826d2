"""What an opaque kernel allocates for itself in a real run on the CPU, by the profiler's events."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from torchgauge.trace.inspect.describe import tensors_in
from torchgauge.trace.torch_internals.profiler import memory_events, profiler_is_on

_KNOWN = ("aten.", "prim.", "prims.", "profiler.")


def is_opaque(name: str, tensors: list[torch.Tensor]) -> bool:
    """Return whether a kernel's own memory is not known from its shapes.

    Those outside of PyTorch's plain operators, and all on quantized tensors.
    """
    return (
        not name.startswith(_KNOWN)
        or name.startswith("aten.quantized_")
        or any(tensor.is_quantized for tensor in tensors)
    )


def frees_unseen(name: str) -> bool:
    """Return whether the profiler sees what a kernel allocates, but not when it is freed.

    So it is with QNNPACK's, which pack their weight at the first run and keep it: their temporaries
    are ``DefaultMobileCPUAllocator``'s (``CPUAllocator.cpp`` in PyTorch's ``c10/core``).
    """
    return name.startswith("quantized.") and torch.backends.quantized.engine == "qnnpack"


def run_measured(run: Callable[[], Any], *, unseen: bool = False) -> tuple[Any, int]:
    """Run a kernel; return its output and the most bytes it held beyond what it leaves.

    On one thread: each further one adds a share of its own. Where its frees are ``unseen`` it runs
    twice, and leaves its output alone.
    """
    if profiler_is_on():  # someone else is profiling
        return run(), 0
    output: Any = None

    def keep() -> None:
        nonlocal output
        output = run()

    with one_thread(), quiet_profiler():
        if unseen:
            run()
        changes = memory_events(keep)
    held = highest = 0
    for change in changes:
        held += change
        highest = max(highest, held)
    if unseen:
        held = sum(tensor.untyped_storage().nbytes() for tensor in tensors_in(output))
    return output, max(0, highest - max(held, 0))


@contextmanager
def one_thread() -> Iterator[None]:
    """Run kernels on one thread while the context is open."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def quiet_profiler() -> Iterator[None]:
    """Keep the profiler's own log lines (``USDT:…`` in torch 2.13) out of the user's terminal."""
    name = "KINETO_LOG_LEVEL"
    before = os.environ.get(name)
    if before is None:
        os.environ[name] = "99"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
