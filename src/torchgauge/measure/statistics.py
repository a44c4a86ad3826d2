"""Medians of repeated measurements, and how sure they are, without assuming a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import median

from torchgauge.facts.time import Interval


def interval_ranks(count: int, confidence: float) -> tuple[int, int, float]:
    """Return the narrowest pair of ranks whose samples enclose the median, and its coverage.

    Each sample lies below the median with probability ½, so the number of those that do is
    binomial; ranks ``k`` and ``count - 1 - k`` (from 0) enclose the median unless at most ``k``
    samples lie on one side of it. When even the extremes are not sure enough, they are what is
    returned, with the lower coverage that they have.

    Source: the distribution-free interval for a quantile, H. A. David and H. N. Nagaraja, Order
    Statistics (3rd ed.), §7.1.

    >>> interval_ranks(10, 0.95)
    (1, 8, 0.978515625)
    >>> interval_ranks(5, 0.95)
    (0, 4, 0.9375)
    """
    best = (0, count - 1, _coverage(count, 0))
    for rank in range(1, (count + 1) // 2):
        coverage = _coverage(count, rank)
        if coverage < confidence:
            break
        best = (rank, count - 1 - rank, coverage)
    return best


def enough_for(confidence: float) -> int:
    """Return how many samples it takes for their extremes to be that sure.

    >>> enough_for(0.95)
    6
    """
    count = 2
    while _coverage(count, 0) < confidence:
        count += 1
    return count


def interval_of(samples: Sequence[float], confidence: float) -> Interval:
    """Return the spread of samples in milliseconds around their median."""
    ordered = sorted(samples)
    low, high, _ = interval_ranks(len(ordered), confidence)
    return Interval(
        low_ms=ordered[low],
        high_ms=ordered[high],
        fastest_ms=ordered[0],
        slowest_ms=ordered[-1],
    )


def is_settled(samples: Sequence[float], confidence: float, tolerance: float) -> bool:
    """Return whether the interval is sure enough and within ``tolerance`` of the median."""
    if len(samples) < enough_for(confidence):
        return False
    spread, middle = interval_of(samples, confidence), median(samples)
    return (
        spread.high_ms - middle <= tolerance * middle
        and middle - spread.low_ms <= tolerance * middle
    )


def _coverage(count: int, rank: int) -> float:
    outside = sum(comb(count, below) for below in range(rank + 1))
    return max(0.0, 1.0 - 2.0 * (outside / (1 << count)))
