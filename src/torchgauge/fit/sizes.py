"""The largest size that still runs: predicted on a line, then verified by tracing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isqrt
from typing import Final

from torchgauge.facts.fit import Largest, Tried, Verdict
from torchgauge.fit.variants import VariantError

LIMIT: Final = 1 << 20
"""A size above which no larger one is looked for."""
_TRACES: Final = 20
"""Of one search at most. A line through two points is off by a few; this is for what is none."""
_GRAINS: Final = 512
"""Sizes above it are looked at in steps of a power of two, 1/512 of them or finer."""
_PREDICTIONS: Final = 6
"""After as many traces the interval is halved."""
_MISSES: Final = 3
"""In a row on the same side, after which the line is not believed."""
_NOTHING_GROWS: Final = 16
"""By how much to go on where a larger size took no more."""
FAST: Final = 8
"""Sizes that are a multiple of it keep the tensor cores' tiles full.

Source: NVIDIA, "Matrix Multiplication Background User's Guide": multiples of 8 for 16-bit types.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one size takes."""

    allocated_bytes: int
    most_allocated_bytes: int
    """At the upper end of the interval."""
    reserved_bytes: int
    device_bytes: int
    fits: bool
    """Whether the predicted bytes run."""
    verdict: Verdict


@dataclass(slots=True, kw_only=True)
class SizeSearch:
    """Search over one size: the batch, or the tokens of context.

    Assumes: a size takes no less than a smaller one.
    """

    sample: Callable[[int], Sample]
    """Traces a size; raises ``VariantError`` when that fails."""
    capacity_bytes: int
    """What the caching allocator can get."""
    samples: dict[int, Sample]
    """Those that are known already; at least one."""
    limit: int = LIMIT
    unit: int = 1
    """Only multiples of it are looked at."""
    failure: str = field(default="", init=False)

    def run(self, first_guess: int | None = None) -> Largest:
        """Find the largest size that runs, the largest safe one, and the one at full speed."""
        runs, is_bound = self._boundary(self.unit, _fits, _allocated, first_guess)
        safe, fast = None, None
        if runs is not None:
            safe, _ = self._boundary(self.unit, _is_safe, _most_allocated, None)
        fast_unit = max(self.unit, FAST)
        if safe is not None and safe >= fast_unit:
            fast, _ = self._boundary(fast_unit, _is_fast, _reserved, None)
        tried = tuple(
            Tried(size=size, device_bytes=s.device_bytes, verdict=s.verdict, fits=s.fits)
            for size, s in sorted(self.samples.items())
        )
        grain = _grain(runs or 0, self.unit)
        note = self.failure
        if runs is not None and not is_bound and runs + grain > self.limit:
            note = note or f"sizes above {self.limit:,} were not tried"
        return Largest(
            runs=max(runs or 0, safe or 0, fast or 0) or None,
            safe=max(safe or 0, fast or 0) or None,
            full_speed=fast,
            unit=grain,
            tried=tried,
            is_bound=is_bound,
            note=note,
        )

    def _boundary(
        self,
        unit: int,
        accept: Callable[[Sample], bool],
        measure: Callable[[Sample], int],
        guess: int | None,
    ) -> tuple[int | None, bool]:
        """Return the largest accepted multiple of ``unit``, and whether the next was refused.

        Of large sizes only multiples of their grain are looked at.
        """
        streak = 0  # how often in a row the answer lay on the same side of what was predicted
        for attempt in range(_TRACES):
            low, high = self._bracket(unit, accept)
            if high is not None and high - low <= _grain(low, unit):
                return (low or None), True
            if low + _grain(low, unit) > self.limit:
                return (low or None), False
            if guess is None and low and high is not None and attempt >= _PREDICTIONS:
                guess = _middle(low, high)
            elif guess is None:
                guess = self._guess(measure, low, high, streak, unit)
            size, guess = _between(guess, _grain(low, unit), low, high, self.limit), None
            try:
                self.samples[size] = self.sample(size)
            except VariantError as error:
                self.failure = f"{size:,} was refused: {error}"
                return (low or None), False
            side = 1 if accept(self.samples[size]) else -1
            streak = streak + side if streak * side > 0 else side
        return (self._bracket(unit, accept)[0] or None), False

    def _guess(
        self,
        measure: Callable[[Sample], int],
        low: int,
        high: int | None,
        streak: int,
        unit: int,
    ) -> int:
        """Return the predicted size, or where the line leads out of the bracket one near that end.

        Each further miss on the same side goes four times as far, up to half of the bracket.
        """
        step = _grain(high or low, unit) << 2 * max(abs(streak) - 1, 0)
        predicted = self._predict(measure, low, high)
        if high is None:
            return max(predicted, low + step)
        if predicted <= low:
            return min(low + step, _middle(low, high))
        if predicted < high and abs(streak) < _MISSES:
            return predicted
        if low:
            return max(high - step, _middle(low, high))
        return high // 2 if streak < -1 else high * 3 // 4

    def _bracket(self, unit: int, accept: Callable[[Sample], bool]) -> tuple[int, int | None]:
        """Return the largest accepted multiple of ``unit`` (or 0) and the next refused one.

        What a refused size between two multiples says of the next multiple is used; that a size
        is accepted has to be seen itself.
        """
        refused = [-(-s // unit) * unit for s, sample in self.samples.items() if not accept(sample)]
        high = min(refused, default=None)
        accepted = [s for s, sample in self.samples.items() if accept(sample) and s % unit == 0]
        low = max((s for s in accepted if high is None or s < high), default=0)
        return low, high

    def _predict(self, measure: Callable[[Sample], int], low: int, high: int | None) -> int:
        """Return where a line reaches the limit: through both ends, or the two nearest samples."""
        if len(self.samples) < 2:
            return 2 * low if high is None else high // 2
        room = self.capacity_bytes
        near = sorted(self.samples, key=lambda s: abs(measure(self.samples[s]) - room))[:2]
        if low in self.samples and high is not None and high in self.samples:
            near = [low, high]
        (x1, y1), (x2, y2) = ((size, measure(self.samples[size])) for size in near)
        if (y2 - y1) * (x2 - x1) <= 0:
            return _NOTHING_GROWS * low if high is None else _middle(low, high)
        return int(x1 + (room - y1) * (x2 - x1) / (y2 - y1))


def _middle(low: int, high: int) -> int:
    """Return a size in between: of two far apart the geometric mean.

    >>> _middle(10, 20), _middle(10, 1000)
    (15, 100)
    """
    return isqrt(low * high) if high > 4 * low > 0 else (low + high) // 2


def _grain(size: int, unit: int) -> int:
    """Return the step between sizes of about this one: a multiple of ``unit``.

    >>> _grain(511, 1), _grain(10_000, 1), _grain(10_000, 8)
    (1, 16, 16)
    """
    grain = unit
    while 2 * grain * _GRAINS <= size:
        grain *= 2
    return grain


def _between(guess: int, unit: int, low: int, high: int | None, limit: int) -> int:
    """Return a multiple of ``unit`` above ``low`` and below ``high``, as near to the guess."""
    size = min(guess, limit) // unit * unit
    if high is not None:
        size = min(size, high - unit)
    return max(size, low + unit)


def _fits(sample: Sample) -> bool:
    return sample.fits


def _is_safe(sample: Sample) -> bool:
    return sample.verdict.runs


def _is_fast(sample: Sample) -> bool:
    return sample.verdict is Verdict.FITS


def _allocated(sample: Sample) -> int:
    return sample.allocated_bytes


def _most_allocated(sample: Sample) -> int:
    return sample.most_allocated_bytes


def _reserved(sample: Sample) -> int:
    return sample.reserved_bytes
