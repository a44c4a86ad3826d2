"""Predicted and measured times side by side, and what a calibration came to, as pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torchgauge.facts.time import OUTSIDE, TimeComparison, TimeRow
from torchgauge.render.page import Block, Column, Data, Facts, Notes, Page, Table, fact, table_of
from torchgauge.units import format_milliseconds, format_percent

if TYPE_CHECKING:
    from torchgauge.measure.calibration.run import Calibrated

TOP = 20
"""Rows of modules and of operators that are shown."""
_COLUMNS = (
    Column("Predicted", keep=80),
    Column("Measured", keep=90),
    Column("Ratio"),
)


def times_page(comparison: TimeComparison, *, top: int | None = TOP) -> Page:
    """Return what is shown of a comparison: the ``top`` rows of each kind, all for ``None``."""
    total = comparison.total
    phases = [(row.name, *_figures(row)) for row in (*comparison.phases, total)]
    text = (
        f"predicted {format_milliseconds(total.predicted_ms)}",
        f"measured {format_milliseconds(total.measured_ms)}",
        f"ratio {_ratio(total)}",
    )
    blocks: list[Block] = [
        Facts(facts=(fact("Step", *text),)),
        table_of((Column("Phase", is_number=False), *_COLUMNS), phases),
    ]
    for what, rows in (("Module", comparison.modules), ("Operator", comparison.operators)):
        if rows:
            blocks.append(_worst(what, rows[:top]))
        if top is not None and len(rows) > top:
            more = f"{len(rows) - top} more {what.lower()}s in JSON and CSV"
            blocks.append(Notes(lines=(more,), calm=1))
    title = (
        comparison.model_name,
        f"predicted for {comparison.predicted_on}",
        f"measured on {comparison.measured_on}",
    )
    return Page(title=title, blocks=(*blocks, _data(comparison)))


def _worst(what: str, rows: Sequence[TimeRow]) -> Table:
    columns = (
        Column(what, is_number=False, wraps=True, is_code=True),
        Column("Kind", is_number=False, keep=70),
        *_COLUMNS,
    )
    cells = [(row.name or "(root)", row.kind or "–", *_figures(row)) for row in rows]
    without = " without their sub-modules" if what == "Module" else ""
    return table_of(columns, cells, heading=f"{what}s{without}, the worst first")


def _figures(row: TimeRow) -> tuple[str, str, str]:
    predicted, measured = (format_milliseconds(ms) for ms in (row.predicted_ms, row.measured_ms))
    return predicted, measured, _ratio(row)


def _ratio(row: TimeRow) -> str:
    return "–" if row.ratio is None else f"{row.ratio:.2f}×"


def _data(comparison: TimeComparison) -> Data:
    """Return one row per phase, module and operator, in milliseconds."""
    groups = (
        ("total", (comparison.total,)),
        ("phase", comparison.phases),
        ("module", comparison.modules),
        ("operator", comparison.operators),
    )
    rows = [
        (
            "outside" if row.name == OUTSIDE else group, row.name, row.kind, row.predicted_ms,
            row.measured_ms, "" if row.ratio is None else f"{row.ratio:.6g}",
        )
        for group, members in groups
        for row in members
    ]  # fmt: skip
    columns = ("row", "name", "kind", "predicted_ms", "measured_ms", "ratio")
    return Data(columns=columns, rows=tuple(rows))


# ---------------------------------------------------------------------------- calibration


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
