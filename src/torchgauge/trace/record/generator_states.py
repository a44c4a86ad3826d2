"""States of the random number generator that a run holds: ``torch.utils.checkpoint`` keeps them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from torchgauge.trace.record.recorder import Recorder


@contextmanager
def generator_states_noted(recorder: Recorder) -> Iterator[None]:
    """Let the recorder see the tensors that ``torch.get_rng_state`` returns.

    The generator makes them itself (5,056 bytes in host memory), without an operator. A checkpoint
    keeps one until its backward, which holds another (``preserve_rng_state`` in
    ``torch/utils/checkpoint.py``, ``fork_rng`` in ``torch/random.py``).
    """
    original, fork = torch.random.get_rng_state, torch.random.fork_rng
    torch.get_rng_state = torch.random.get_rng_state = _noted(original, recorder)
    torch.random.fork_rng = _forked_for_meta_too(fork)
    try:
        yield
    finally:
        torch.get_rng_state = torch.random.get_rng_state = original
        torch.random.fork_rng = fork


def _noted(get_state: Callable[[], torch.Tensor], recorder: Recorder) -> Callable[[], torch.Tensor]:
    @functools.wraps(get_state)
    def get_rng_state() -> torch.Tensor:
        state = get_state()
        recorder.note_made(state)
        return state

    return get_rng_state


def _forked_for_meta_too(fork: Callable[..., Any]) -> Callable[..., Any]:
    """Fork the CPU's generator for tensors without data as well, for which PyTorch forks none."""

    @functools.wraps(fork)
    def fork_rng(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("device_type") == "meta":
            kwargs |= {"device_type": "cuda", "devices": []}
        return fork(*args, **kwargs)

    return fork_rng
