"""Throughput and memory of a step over batch sizes: pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from torchgauge.facts.codec import Shape
from torchgauge.facts.fit import Verdict
from torchgauge.facts.saved import Saved

KNEE_SHARE: Final = 0.9
"""Of the best throughput, from which on a larger batch is hardly worth its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPoint:
    """One batch size on one device."""

    batch: int
    step_ms: float
    device_bytes: int
    verdict: Verdict
    bound_by: str
    """``"compute"``, ``"memory"`` or ``"launch"``: what decides most of the step."""

    json: ClassVar = Shape(more=("samples_per_second",))

    @property
    def samples_per_second(self) -> float:
        """Return the throughput."""
        return self.batch / self.step_ms * 1e3 if self.step_ms else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCurve(Saved):
    """The sizes that were traced, the smallest first; those that do not fit come last."""

    model_name: str
    device: str
    mode: str
    precision: str
    error: float
    """Relative error of the predicted times: ±0.2 is ±20 %."""
    points: tuple[BatchPoint, ...]
    parameter_dtypes: tuple[str, ...] = ()
    """Of the model as it ran, the one of most elements first."""

    json: ClassVar = Shape(
        names=(
            "model_name", "device", "mode", "precision", "parameter_dtypes", "error", "knee",
            "points",
        ),
        sources={"knee": "knee_batch"},
        derived=("knee",),
    )  # fmt: skip

    @property
    def knee(self) -> BatchPoint | None:
        """Return the smallest batch with ``KNEE_SHARE`` of the best throughput that fits."""
        fitting = [point for point in self.points if point.verdict is Verdict.FITS]
        best = max((point.samples_per_second for point in fitting), default=0.0)
        return next((p for p in fitting if p.samples_per_second >= KNEE_SHARE * best), None)

    @property
    def knee_batch(self) -> int | None:
        """Return the batch size of the knee."""
        return None if self.knee is None else self.knee.batch
