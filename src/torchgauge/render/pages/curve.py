"""Throughput and memory over batch sizes, as a page."""

from __future__ import annotations

from torchgauge.facts.fit import KNEE_SHARE, BatchCurve, BatchPoint
from torchgauge.render.page import Column, Data, Fact, Facts, Page, Tone, fact, table_of
from torchgauge.render.pages.settings import settings
from torchgauge.render.pages.verdict import VERDICTS
from torchgauge.units import format_bytes, format_milliseconds, format_percent, format_rate

_COLUMNS = (
    Column("Batch", is_number=False),
    Column("Step", keep=80),
    Column("Samples/s", keep=95),
    Column("On the device", keep=90),
    Column("Bound by", is_number=False, keep=60),
    Column("Verdict", is_number=False, keep=70),
)


def curve_page(curve: BatchCurve) -> Page:
    """Return what is shown of a curve."""
    rows = [_row(point, point is curve.knee) for point in curve.points]
    data = Data(
        columns=(
            "batch", "step_ms", "samples_per_second", "device_bytes", "bound_by", "verdict", "knee",
        ),
        rows=tuple(
            (point.batch, point.step_ms, point.samples_per_second, point.device_bytes,
             point.bound_by, point.verdict, str(point is curve.knee))
            for point in curve.points
        ),
    )  # fmt: skip
    error = format_percent(round(curve.error, 2), 1.0)
    times = fact("Times", f"predicted, ± {error} (four of five steps stay within)")
    return Page(
        title=(curve.model_name, *settings(curve.scenario, curve.parameter_dtypes)),
        blocks=(Facts(facts=(_knee(curve), times)), table_of(_COLUMNS, rows), data),
    )


def _knee(curve: BatchCurve) -> Fact:
    knee = curve.knee
    if knee is None:
        text = "none: no batch size that was traced fits"
        return fact("Knee", text, tone=Tone.BAD)
    share, rate = format_percent(KNEE_SHARE, 1.0), format_rate(knee.samples_per_second)
    return fact(
        "Knee",
        f"batch {knee.batch}, the smallest with {share} of the best throughput",
        f"{rate} samples/s in {format_bytes(knee.device_bytes)}",
        tone=Tone.GOOD,
    )


def _row(point: BatchPoint, is_knee: bool) -> tuple[str, ...]:
    return (
        f"{point.batch}{' knee' if is_knee else ''}",
        format_milliseconds(point.step_ms),
        format_rate(point.samples_per_second),
        format_bytes(point.device_bytes),
        point.bound_by,
        VERDICTS[point.verdict],
    )
