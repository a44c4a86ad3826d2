"""Weights that accelerate keeps in memory or on the disk, and which of those are tied.

On the disk each name has a file, so tied weights lie there twice, and only their bytes say that
they are one. Source: ``accelerate/utils/offload.py`` (1.x).
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

import torch

_SAMPLE = 16 * 1024
"""Bytes that are read of a file at its start, in its middle and at its end."""
_VARIED = 0.25
"""Share of different numbers in what was drawn by chance or trained, not filled or counted."""
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def offloaded(weights: Any, key: str, *, read: bool = False) -> torch.Tensor | None:
    """Return a weight that accelerate keeps in memory or, with ``read``, on the disk.

    ``PrefixedDataset`` and ``OffloadedWeightsLoader`` of ``accelerate.utils.offload`` (1.x).
    """
    weights, key = _behind_prefixes(weights, key)
    if not read:
        weights = getattr(weights, "state_dict", weights)
        if not isinstance(weights, dict):
            return None
    try:
        found = weights[key]
    except KeyError:
        return None
    return found if isinstance(found, torch.Tensor) else None


def content_on_disk(weights: Any, key: str, tensor: torch.Tensor, *, is_tied: bool) -> str | None:
    """Return what two weights on the disk share when they are the same numbers.

    ``None`` where the numbers say nothing: they are not there, or, unless ``is_tied`` says that
    the weight is one of several, all alike or in order, as layers have them at the start.
    """
    weights, key = _behind_prefixes(weights, key)
    folder = getattr(weights, "save_folder", None)
    if folder is None or key not in getattr(weights, "index", {}):
        return None
    try:
        sample = _sample(os.path.join(folder, f"{key}.dat"))
    except OSError:
        return None
    size = tensor.element_size()
    numbers = torch.frombuffer(sample[: len(sample) // size * size], dtype=_BITS[size])
    if not is_tied:
        order = numbers.diff()
        is_counted = bool((order >= 0).all() or (order <= 0).all())
        if is_counted or numbers.unique().numel() < _VARIED * numbers.numel():
            return None
    return f"{tuple(tensor.shape)} {tensor.dtype} {hashlib.sha256(sample).hexdigest()}"


def _behind_prefixes(weights: Any, key: str) -> tuple[Any, str]:
    while hasattr(weights, "dataset") and hasattr(weights, "prefix"):
        weights, key = weights.dataset, f"{weights.prefix}{key}"
    return weights, key


def _sample(path: str) -> bytearray:
    """Return a small file, or the beginning, the middle and the end of a large one."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        if end <= 3 * _SAMPLE:
            file.seek(0)
            return bytearray(file.read())
        found = bytearray()
        for start in (0, end // 2, end - _SAMPLE):
            file.seek(start - start % 8)
            found += file.read(_SAMPLE)
    return found
