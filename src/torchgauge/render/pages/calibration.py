"""What a calibration of the CPU came to, as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchgauge.render.page import Column, Facts, Page, fact, table_of
from torchgauge.units import format_milliseconds, format_percent

if TYPE_CHECKING:
    from torchgauge.measure.calibration.run import Calibrated


def calibration_page(done: Calibrated) -> Page:
    """Return what is shown of a calibration: rates, and networks predicted and measured."""
    machine = done.calibration
    rates = (
        f"{machine.roof.flops_per_second / 1e9:,.0f} GFLOP/s",
        f"{machine.roof.bytes_per_second / 1e9:,.0f} GB/s",
    )
    error = f"± {format_percent(machine.error, 1.0)} for four of five of these networks"
    facts = (
        fact("At best", *rates),
        fact("Predictions", error),
        fact("Kept in", str(done.path)),
    )
    numbers = (Column(title) for title in ("Predicted", "Measured", "Ratio"))
    rows = [
        (
            step.name,
            format_milliseconds(1000.0 * step.predicted),
            format_milliseconds(1000.0 * step.measured),
            f"{step.predicted / step.measured:.2f}×",
        )
        for step in done.steps
    ]
    table = table_of((Column("Network", is_number=False), *numbers), rows)
    return Page(title=(str(machine.cpu),), blocks=(Facts(facts=facts), table))
