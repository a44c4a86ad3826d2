"""Process-wide state that a run may disturb: saved before, restored after, whatever happens."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def untouched() -> Iterator[None]:
    """Restore RNG states and the grad mode; keep the cycle collector out of the run.

    The collector frees reference cycles at moments that differ from machine to machine, and a
    storage's lifetime is part of the answer.
    """
    torch_state = torch.get_rng_state()
    python_state = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    grad_enabled = torch.is_grad_enabled()
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        if numpy is not None:
            numpy.random.set_state(numpy_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)
        torch.set_grad_enabled(grad_enabled)
        if collecting:
            gc.enable()
