"""Samples → surfaces: the interpolation that makes what was measured most likely.

A Gaussian process over the logarithms of the sizes, with a Matérn 5/2 covariance; its scales and
noise are those of the highest marginal likelihood, and the error is that of predicting each sample
from all others (C. E. Rasmussen and C. K. I. Williams, "Gaussian Processes for Machine Learning",
2006, equations 2.30 and 5.10 to 5.12).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from math import exp, log
from statistics import fmean
from typing import Final

import torch

from torchgauge.estimate.time.cpu.surface import Roof, Surface
from torchgauge.measure.calibration.timing import Sample

_COVERED: Final = 0.8
"""Share of the samples within a surface's error."""
_SCALES: Final = (0.4, 0.7, 1.2, 2.0, 3.5, 6.0, 12.0)
_AMPLITUDES: Final = (0.1, 0.2, 0.4, 0.8)
_NOISES: Final = (0.02, 0.05, 0.1, 0.2)
_SWEEPS: Final = 3
_SLOPE: Final = 1.0
"""Standard deviation of the mean's slopes, before any measurement."""


def roof_of(samples: Sequence[Sample]) -> Roof:
    """Return the best rates that any sample shows."""
    return Roof(
        flops_per_second=max(s.work.flops / s.seconds for s in samples),
        bytes_per_second=max(
            s.work.nbytes / s.seconds
            for s in samples
            if s.work.surface == "copy_" and s.work.nbytes > 64 * 2**20
        ),
        op_seconds=min(s.seconds for s in samples),
    )


def surfaces_of(samples: Iterable[Sample], roof: Roof) -> dict[str, Surface]:
    """Return a surface for each name among the samples."""
    groups: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.work.surface].append(sample)
    return {name: _surface(group, roof) for name, group in sorted(groups.items())}


def _surface(samples: Sequence[Sample], roof: Roof) -> Surface:
    ratios = [log(s.seconds / roof.seconds(s.work.padded_flops, s.work.nbytes)) for s in samples]
    places = [tuple(log(size) for size in s.work.sizes) for s in samples]
    if len(places[0]) == 1:
        return _curve([(place[0], ratio) for place, ratio in zip(places, ratios, strict=True)])
    return _process(places, ratios)


def _curve(points: Sequence[tuple[float, float]]) -> Surface:
    """Join the points; those of one size are averaged."""
    merged = [
        (x, fmean(ratio for _, ratio in group))
        for x, group in groupby(sorted(points), key=lambda point: point[0])
    ]
    errors = [
        abs(exp(merged[i][1] - (merged[i - 1][1] + merged[i + 1][1]) / 2) - 1.0)
        for i in range(1, len(merged) - 1)
    ]
    return Surface(
        points=tuple((x,) for x, _ in merged),
        mean=(),
        scales=(1.0,),
        weights=tuple(ratio for _, ratio in merged),
        error=quantile(errors) if errors else 1.0,
    )


def quantile(errors: Sequence[float]) -> float:
    """Return the error that one more stays within four times of five, if it is like these."""
    ordered = sorted(errors)
    return ordered[min(len(ordered) - 1, int(_COVERED * len(ordered)))]


# ---------------------------------------------------------------------------- the process


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    scales: tuple[float, ...]
    amplitude: float
    noise: float


class _Process:
    """A set of points; ``likelihood`` of settings, and the weights for the best of them."""

    def __init__(self, places: Sequence[Sequence[float]], values: Sequence[float]) -> None:
        self.x = torch.tensor(places, dtype=torch.float64)
        y = torch.tensor(values, dtype=torch.float64)
        self.center = self.x.mean(0)
        linear = torch.cat([torch.ones(len(y), 1, dtype=y.dtype), self.x - self.center], 1)
        prior = torch.eye(linear.shape[1], dtype=y.dtype) * (0.1 / _SLOPE) ** 2
        prior[0, 0] = 0.0
        self.slopes = torch.linalg.solve(linear.T @ linear + prior, linear.T @ y)
        self.rest = y - linear @ self.slopes

    def covariance(self, settings: _Settings) -> torch.Tensor:
        scaled = self.x / torch.tensor(settings.scales, dtype=self.x.dtype)
        square = (scaled[:, None] - scaled[None]).square().sum(-1)
        far = (5.0 * square).sqrt()
        smooth = (1.0 + far + 5.0 * square / 3.0) * torch.exp(-far)
        noise = torch.eye(len(square), dtype=square.dtype) * settings.noise**2
        return settings.amplitude**2 * smooth + noise

    def likelihood(self, settings: _Settings) -> float:
        """Return the logarithm of the marginal likelihood, less a constant."""
        root = torch.linalg.cholesky(self.covariance(settings))
        half = torch.linalg.solve_triangular(root, self.rest[:, None], upper=False)
        return float(-0.5 * half.square().sum() - root.diagonal().log().sum())

    def best(self) -> _Settings:
        """Return the likeliest settings: one after the other, several times."""
        axes = self.x.shape[1]
        found = _Settings(scales=(2.0,) * axes, amplitude=0.4, noise=0.1)
        value = self.likelihood(found)
        for _ in range(_SWEEPS):
            before = value
            for change in self._near(found):
                tried = change(found)
                likelihood = self.likelihood(tried)
                if likelihood > value:
                    found, value = tried, likelihood
            if value == before:
                break
        return found

    @staticmethod
    def _near(found: _Settings) -> Iterator[Callable[[_Settings], _Settings]]:
        """Yield the ways to change one setting."""
        for amplitude in _AMPLITUDES:
            yield partial(replace, amplitude=amplitude)
        for noise in _NOISES:
            yield partial(replace, noise=noise)
        for axis in range(len(found.scales)):
            for scale in _SCALES:
                yield partial(_with_scale, axis=axis, scale=scale)


def _with_scale(settings: _Settings, *, axis: int, scale: float) -> _Settings:
    scales = settings.scales
    return replace(settings, scales=(*scales[:axis], scale, *scales[axis + 1 :]))


def _process(places: Sequence[Sequence[float]], values: Sequence[float]) -> Surface:
    process = _Process(places, values)
    settings = process.best()
    inverse = torch.linalg.inv(process.covariance(settings))
    weights = inverse @ process.rest
    left_out = weights / inverse.diagonal()
    slopes = process.slopes
    constant = float(slopes[0] - (slopes[1:] * process.center).sum())
    return Surface(
        points=tuple(tuple(place) for place in places),
        mean=(constant, *(float(slope) for slope in slopes[1:])),
        scales=settings.scales,
        weights=tuple(float(w) for w in settings.amplitude**2 * weights),
        error=quantile([abs(exp(float(error)) - 1.0) for error in left_out]),
    )
