"""Measured times of one operator, as a function of its sizes.

``ln(time / roof)`` is interpolated over the logarithms of the sizes, where the roof is what the
machine's best rates would take: products at the rate of the best product, bytes at that of the best
copy, and the least that any operator takes. What is interpolated is therefore how well a shape uses
the machine, which changes slowly, and stays what it was outside of what was measured.

With one size the points are joined by lines; with several a Gaussian process is the
interpolation: a mean that is linear in the coordinates, and a Matérn 5/2 covariance (C. E.
Rasmussen and C. K. I. Williams, "Gaussian Processes for Machine Learning", 2006, sections 2.2, 2.7
and 4.2.1).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Annotated

from msgspec import Meta

Positive = Annotated[float, Meta(gt=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """What the machine reaches at best."""

    flops_per_second: Positive
    bytes_per_second: Positive
    op_seconds: Positive
    """What an operator takes that has next to nothing to do: dispatch."""

    def seconds(self, flops: float, nbytes: float) -> float:
        """Return what an operator would take at these rates."""
        return self.op_seconds + flops / self.flops_per_second + nbytes / self.bytes_per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """How many times the roof's time one kind of operator takes, by its sizes."""

    points: tuple[tuple[float, ...], ...]
    """Coordinates of the measurements: natural logarithms of the sizes."""
    mean: tuple[float, ...]
    """Of the logarithm: a constant, then a slope per coordinate. Empty for a curve."""
    scales: tuple[Positive, ...]
    """Per coordinate, in the logarithm: how far a measurement tells of others."""
    weights: tuple[float, ...]
    """Per point; for a curve the logarithm of the ratio there."""
    error: float
    """Relative error that four of five measurements stay within, each predicted from the others."""

    def ratio(self, sizes: Sequence[float]) -> float:
        """Return the time at these sizes, in times of the roof's; the nearest edge's outside.

        Raises:
            ValueError: the number of sizes is not that of the measurements.
        """
        if len(sizes) != len(self.scales):
            raise ValueError(f"{len(sizes)} sizes for a surface over {len(self.scales)}")
        place = [self._inside(axis, log(size)) for axis, size in enumerate(sizes)]
        if not self.mean:
            return exp(self._between(place[0]))
        found = self.mean[0]
        found += sum(slope * x for slope, x in zip(self.mean[1:], place, strict=True))
        for point, weight in zip(self.points, self.weights, strict=True):
            found += weight * covariance(place, point, self.scales)
        return exp(found)

    def _inside(self, axis: int, value: float) -> float:
        column = [point[axis] for point in self.points]
        return min(max(value, min(column)), max(column))

    def _between(self, x: float) -> float:
        places = [point[0] for point in self.points]
        above = min(max(1, bisect_right(places, x)), len(places) - 1)
        if len(places) == 1:
            return self.weights[0]
        left, right = places[above - 1], places[above]
        share = (x - left) / (right - left) if right > left else 0.0
        return (1.0 - share) * self.weights[above - 1] + share * self.weights[above]


def covariance(a: Sequence[float], b: Sequence[float], scales: Sequence[float]) -> float:
    """Return the Matérn 5/2 correlation of two places.

    >>> covariance((1.0, 2.0), (1.0, 2.0), (1.0, 1.0))
    1.0
    """
    square = sum(((x - y) / scale) ** 2 for x, y, scale in zip(a, b, scales, strict=True))
    far = sqrt(5.0 * square)
    return (1.0 + far + 5.0 * square / 3.0) * exp(-far)
