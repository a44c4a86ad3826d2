"""How many times as long products take in another dtype than in float32."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from math import exp, log
from statistics import fmean, median
from typing import Any, Final

import torch

DTYPES: Final = (torch.bfloat16, torch.float16, torch.float64)
_RUNS: Final = 9
_PRODUCTS: Final = ((16, 512, 512), (128, 768, 768), (256, 256, 1024))
"""Rows, columns, inner side."""
_CONVOLUTIONS: Final = (
    ((1, 32, 56, 56), (64, 32, 3, 3)),
    ((2, 128, 28, 28), (128, 128, 3, 3)),
    ((2, 256, 14, 14), (512, 256, 1, 1)),
)


def slower(dtype: torch.dtype) -> Mapping[str, float]:
    """Return the ratio of matrix products and of convolutions: the mean, in the logarithm."""
    with torch.no_grad():
        products = [_ratio(lambda a, b: a @ b, (m, k), (k, n), dtype) for m, n, k in _PRODUCTS]
        convolutions = [
            _ratio(lambda x, w: torch.conv2d(x, w, padding=w.shape[-1] // 2), x, w, dtype)
            for x, w in _CONVOLUTIONS
        ]
    return {"matmul": exp(fmean(products)), "convolution": exp(fmean(convolutions))}


def _ratio(
    op: Callable[..., Any], first: tuple[int, ...], second: tuple[int, ...], dtype: torch.dtype
) -> float:
    """Return the logarithm of the ratio; both are timed by turns."""
    given = [(torch.randn(first, dtype=t), torch.randn(second, dtype=t))
             for t in (torch.float32, dtype)]  # fmt: skip
    seconds: list[list[float]] = [[], []]
    for _ in range(_RUNS):
        for operands, times in zip(given, seconds, strict=True):
            start = time.perf_counter()
            op(*operands)
            times.append(time.perf_counter() - start)
    plain, other = (median(times[1:]) for times in seconds)
    return log(other / plain)
