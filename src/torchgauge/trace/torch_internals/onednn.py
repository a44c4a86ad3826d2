"""Sizes that only oneDNN knows, as its source gives them."""

from __future__ import annotations

_PAGE = 4096
_FLOAT = 4
_CACHE_LINE = 16
"""Floats in 64 bytes."""
_CONFLICT = 256
"""Rows of a multiple of as many floats are made a cache line longer."""


def _row(elements: int) -> int:
    elements = -(-elements // _CACHE_LINE) * _CACHE_LINE
    return elements + _CACHE_LINE if elements % _CONFLICT == 0 else elements


def _pages(elements: int) -> int:
    return -(-elements * _FLOAT // _PAGE) * _PAGE


def lstm_workspace_bytes(
    steps: int, batch: int, inputs: int, size: int, *, is_early: bool = False
) -> int:
    """Return the bytes that one float32 LSTM layer keeps for its backward.

    Gates of all steps, states of the layer and of the input before and after each step, and their
    gradients, each from a page on; rows avoid conflicts in the cache. Source: ``set_offsets`` and
    ``get_good_ld`` in oneDNN's ``src/cpu/rnn/rnn_utils.cpp`` (3.x). ``is_early``: two more of the
    states' gradients, measured with 3.5.3 (PyTorch 2.6) and 3.7.1 (2.9), not with 3.12 (2.13).

    >>> lstm_workspace_bytes(7, 2, 16, 16)
    28672
    """
    wide = _row(max(inputs, size))
    states = 2 * (steps + 1) * batch
    return (
        _pages(steps * batch * _row(4 * size))
        + (5 if is_early else 3) * _pages(states * wide)
        + 2 * _pages(states * size)
        + _pages(steps * batch * _row(size))
    )
