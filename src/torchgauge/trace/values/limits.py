"""Up to how many elements values are kept, computed and read."""

from __future__ import annotations

import torch

INTEGER_LIMIT = 1 << 18
"""Elements up to which integer and boolean tensors keep a value."""
FLOAT_LIMIT = 1 << 12
"""Elements up to which floating-point tensors keep a value."""
GUESS_LIMIT = 1 << 24
"""Elements up to which what is computed from a guess keeps a value: masks over experts."""
CAST_LIMIT = 1 << 20
"""Elements up to which known whole numbers keep their values as real numbers."""
GIVEN_LIMIT = 1 << 22
"""Elements up to which given integers and booleans, and what is computed from them, keep values."""
SPAN_LIMIT = 1 << 26
"""Bytes of a storage up to which what a small view of it spans is copied."""
READ_LIMIT = 1 << 22
"""Elements up to which a tensor that is filled with one number is written out to be read."""
WORKED_OUT_LIMIT = 1 << 25
"""Elements up to which deferred whole numbers and truths are worked out."""


def has_small_value(
    shape: tuple[int, ...], dtype: torch.dtype, *, limit: int = INTEGER_LIMIT
) -> bool:
    """Return whether a tensor is worth a real value; ``limit`` is that of whole numbers."""
    numel = 1
    for size in shape:
        numel *= size
    return numel <= (FLOAT_LIMIT if dtype.is_floating_point or dtype.is_complex else limit)
