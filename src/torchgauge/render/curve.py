"""A curve over batch sizes → ``str``, in each format. No torch."""

from __future__ import annotations

import csv
import io

from torchgauge.facts.fit import KNEE_SHARE, BatchCurve, BatchPoint
from torchgauge.facts.precision import precision_text
from torchgauge.render.fit_view import VERDICTS
from torchgauge.render.page import Column, Page, Table, render_page
from torchgauge.units import format_bytes, format_milliseconds, format_percent, format_rate

FORMATS = ("text", "json", "markdown", "csv", "latex")


def render_curve(
    curve: BatchCurve, format: str = "text", *, width: int = 80, ascii: bool = False
) -> str:
    """Return a curve as text of a format; ``width`` and ``ascii`` are for ``text``."""
    if format == "json":
        return curve.to_json()
    if format == "csv":
        return _csv(curve)
    return render_page(_page(curve), format, width=width, ascii=ascii)


def _page(curve: BatchCurve) -> Page:
    knee = curve.knee
    precision = precision_text(curve.precision, curve.parameter_dtypes)
    share = format_percent(KNEE_SHARE, 1.0)
    verdict = "No batch size that was traced fits."
    if knee is not None:
        rate, size = format_rate(knee.samples_per_second), format_bytes(knee.device_bytes)
        verdict = (
            f"The knee is at batch {knee.batch}: the smallest with {share} of the best throughput, "
            f"{rate} samples/s in {size}."
        )
    return Page(
        head=(curve.model_name, curve.mode, precision, curve.device),
        verdict=(verdict,),
        tables=(
            Table(
                title="",
                columns=(
                    Column(title="Batch", is_number=False), Column(title="Step"),
                    Column(title="Samples/s"), Column(title="On the device"),
                    Column(title="Bound by", is_number=False),
                    Column(title="Verdict", is_number=False),
                ),
                rows=tuple(_row(point, point is knee) for point in curve.points),
            ),
        ),
        facts=(),
        notes=(f"times are predicted, ± {format_percent(curve.error, 1.0)}",),
    )  # fmt: skip


def _row(point: BatchPoint, is_knee: bool) -> tuple[str, ...]:
    return (
        f"{point.batch}{' knee' if is_knee else ''}",
        format_milliseconds(point.step_ms),
        format_rate(point.samples_per_second),
        format_bytes(point.device_bytes),
        point.bound_by,
        VERDICTS[point.verdict],
    )


def _csv(curve: BatchCurve) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ("batch", "step_ms", "samples_per_second", "device_bytes", "bound_by", "verdict", "knee")
    )
    for point in curve.points:
        writer.writerow(
            (point.batch, point.step_ms, point.samples_per_second, point.device_bytes,
             point.bound_by, point.verdict, point is curve.knee)
        )  # fmt: skip
    return stream.getvalue().rstrip("\n")
