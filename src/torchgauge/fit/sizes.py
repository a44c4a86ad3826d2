"""The largest size that still runs: predicted on a line, then verified by tracing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torchgauge.fit.bench import SetupError
from torchgauge.report.fit import Largest, Tried, Verdict

LIMIT = 1 << 20
"""A size at which the search gives up to find a larger one."""
_TRACES = 12
"""Of one search. A line through two points is off by one or two; this is for what is no line."""
_PREDICTIONS = 5
"""After so many that did not settle it the interval is halved."""
FAST = 8
"""Sizes that are a multiple of it keep the tensor cores' tiles full.

Source: NVIDIA, "Matrix Multiplication Background User's Guide": multiples of 8 for 16-bit types.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one size takes."""

    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int
    verdict: Verdict


@dataclass(slots=True, kw_only=True)
class SizeSearch:
    """Search over one size: the batch, or the tokens of context."""

    sample: Callable[[int], Sample]
    """Traces a size; raises ``SetupError`` when that fails."""
    capacity_bytes: int
    """What the caching allocator can get."""
    limit: int = LIMIT
    smallest: int = 1
    samples: dict[int, Sample] = field(default_factory=dict)
    failure: str = ""

    def run(self, first_guess: int | None) -> Largest:
        """Find both answers; at least one sample is there already."""
        runs, is_bound = self._boundary(1, lambda s: s.verdict.runs, _allocated, first_guess)
        fast: int | None = None
        if runs is not None and runs >= FAST:
            fast, _ = self._boundary(FAST, lambda s: s.verdict is Verdict.FITS, _reserved, None)
        tried = tuple(
            Tried(size=size, device_bytes=s.device_bytes, verdict=s.verdict)
            for size, s in sorted(self.samples.items())
        )
        note = self.failure
        if runs is not None and runs >= self.limit:
            note = note or f"larger ones than {self.limit:,} were not looked for"
        return Largest(runs=runs, full_speed=fast, tried=tried, is_bound=is_bound, note=note)

    def _boundary(
        self,
        unit: int,
        accept: Callable[[Sample], bool],
        measure: Callable[[Sample], int],
        guess: int | None,
    ) -> tuple[int | None, bool]:
        """Return the largest accepted multiple of ``unit``, and whether the next was refused."""
        for attempt in range(_TRACES):
            low, high = self._bracket(unit, accept)
            if high is not None and (high - low <= unit or high <= self.smallest):
                return (low or None), True
            if low >= self.limit:
                return low, False
            if guess is None:
                guess = self._predict(measure, unit, low, high)
            if high is not None and attempt >= _PREDICTIONS:
                guess = (low + high) // 2
            size = max(_between(guess, unit, low, high, self.limit), self.smallest)
            guess = None
            try:
                self.samples[size] = self.sample(size)
            except SetupError as error:
                self.failure = f"{size} was refused: {error}"
                return (low or None), False
        return (self._bracket(unit, accept)[0] or None), False

    def _bracket(self, unit: int, accept: Callable[[Sample], bool]) -> tuple[int, int | None]:
        """Return the largest accepted multiple of ``unit`` (or 0) and the next refused one.

        What a refused size between two multiples says of the next multiple is used; that a size
        is accepted has to be seen itself.
        """
        accepted = [s for s, sample in self.samples.items() if accept(sample) and s % unit == 0]
        low = max(accepted, default=0)
        refused = [-(-s // unit) * unit for s, sample in self.samples.items() if not accept(sample)]
        return low, min((size for size in refused if size > low), default=None)

    def _predict(
        self, measure: Callable[[Sample], int], unit: int, low: int, high: int | None
    ) -> int:
        """Return where the line through the two samples nearest to the limit reaches it."""
        if len(self.samples) < 2:
            return 2 * low if high is None else high // 2
        near = sorted(self.samples, key=lambda s: abs(measure(self.samples[s]) - self._room))[:2]
        (x1, y1), (x2, y2) = ((size, measure(self.samples[size])) for size in near)
        slope = (y2 - y1) / (x2 - x1)
        if slope <= 0:
            return max(2 * low, low + unit)
        predicted = int(x1 + (self._room - y1) / slope)
        if high is None:  # the last one was accepted: one more, to verify it, or further
            return max(predicted, low + unit)
        return predicted

    @property
    def _room(self) -> int:
        return self.capacity_bytes


def _between(guess: int, unit: int, low: int, high: int | None, limit: int) -> int:
    """Return a multiple of ``unit`` above ``low`` and below ``high``, as near to the guess."""
    size = guess // unit * unit
    if high is not None:
        size = min(size, high - unit)
    return max(min(size, limit // unit * unit), low + unit)


def _allocated(sample: Sample) -> int:
    return sample.allocated_bytes


def _reserved(sample: Sample) -> int:
    return sample.reserved_bytes
