"""One operator to time, and the tensors that it is given: new ones for every run, as in a step.

A layer's input was written just now by the layer before it; its weight was last used one step ago.
An operator that is called again and again with the same tensors finds all of them in the cache, and
is up to twice as fast as in a model. What it makes goes to memory that was freed just before, as in
inference; what it takes where that is not so is timed separately (``distances.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import exp, log, prod
from typing import Any, Final

import torch

_POOL_BYTES: Final = 192 * 2**20
"""More than any cache of today's processors holds next to what else a step touches."""
_EVICTING_BYTES: Final = 64 * 2**20
"""What a step touches, at the least, of a model that is worth timing."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A float32 tensor that was written just before the run."""

    shape: tuple[int, ...]
    channels_last: bool = False
    is_positive: bool = False


@dataclass(frozen=True, slots=True)
class Cold:
    """A float32 tensor that has not been touched for long."""

    shape: tuple[int, ...]
    """As it lies in memory."""
    order: tuple[int, ...] = ()
    """Of its dimensions as the operator sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One operator and its arguments; ``Fresh`` and ``Cold`` stand for tensors, in lists too."""

    op: Any
    """An overload, such as ``torch.ops.aten.relu.default``."""
    given: tuple[Any, ...]
    named: Mapping[str, Any] = field(default_factory=dict)
    begins_step: bool = False
    """Whether nothing that it touches is in a cache: the step before has pushed everything out."""


class Memory:
    """Makes the tensors of the cases."""

    def __init__(self) -> None:
        self._pool = torch.randn(_POOL_BYTES // 4, generator=torch.Generator().manual_seed(0))
        self._at = 0

    def arguments(self, case: Case) -> list[Any]:
        """Return the arguments of the next run."""
        return [self._made(value) for value in case.given]

    def evict(self) -> None:
        """Push what is in the caches out, as the rest of a step does."""
        self._slice((_EVICTING_BYTES // 4,)).sum()

    def _made(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._made(item) for item in value]
        if isinstance(value, Cold):
            tensor = self._slice(value.shape)
            return tensor.permute(value.order) if value.order else tensor
        if isinstance(value, Fresh):
            layout = torch.channels_last if value.channels_last else torch.contiguous_format
            tensor = self._slice(value.shape).clone(memory_format=layout)
            return tensor.abs_().add_(0.1) if value.is_positive else tensor
        return value

    def _slice(self, shape: tuple[int, ...]) -> torch.Tensor:
        size = prod(shape)
        if size > self._pool.numel():
            return torch.randn(shape)
        if self._at + size > self._pool.numel():
            self._at = 0
        found = self._pool[self._at : self._at + size].view(shape)
        self._at += -(-size // 16) * 16
        return found


class Spread:
    """Sizes spread evenly over ranges, in the logarithm: a Sobol sequence, the same each time.

    I. M. Sobol', "On the distribution of points in a cube and the approximate evaluation of
    integrals", 1967; as ``torch.quasirandom.SobolEngine``.
    """

    def __init__(self, dimensions: int, seed: int) -> None:
        self._engine = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=seed)

    def __iter__(self) -> Iterator[list[float]]:
        while True:
            yield self._engine.draw(1)[0].tolist()


def between(share: float, low: float, high: float) -> int:
    """Return the whole number at a share of the way from low to high, in the logarithm.

    >>> between(0.0, 4, 64), between(0.5, 4, 64), between(1.0, 4, 64)
    (4, 16, 64)
    """
    return round(exp(log(low) + share * (log(high) - log(low))))


def channels(share: float, low: float, high: float) -> int:
    """Return channels as networks have them: whole eights, from 128 on whole sixteens.

    >>> channels(0.5, 8, 512), channels(0.9, 8, 512)
    (64, 336)
    """
    count = between(share, low, high)
    part = 16 if count >= 128 else 8
    return count if count < 8 else part * round(count / part)


_SIDES: Final = (1, 2, 4, 5, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128,
                 160, 192, 224)  # fmt: skip


def side(share: float, low: float, high: float) -> int:
    """Return the side of an image as networks have it: small numbers, doubled a few times.

    Kernels work on so many pixels at once, and what is left over costs extra: sides that no network
    has would tell of others than those that are asked for.

    >>> side(0.0, 4, 112), side(0.5, 4, 112), side(1.0, 4, 112)
    (4, 20, 112)
    """
    wanted = between(share, low, high)
    return min(_SIDES, key=lambda known: abs(log(known / wanted)))


def chosen(share: float, *options: int) -> int:
    """Return one of the options; each has an equal part of 0 to 1."""
    return options[min(len(options) - 1, int(share * len(options)))]
