"""Predicted beside measured times → ``str``, in each format. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from torchgauge.facts.time import OUTSIDE, TimeComparison, TimeRow
from torchgauge.render.csv import safe
from torchgauge.render.page import Column, Page, Table, render_page
from torchgauge.units import format_milliseconds

FORMATS = ("text", "json", "markdown", "csv", "latex")
_COLUMNS = (Column(title="Predicted"), Column(title="Measured"), Column(title="Ratio"))


def render_times(
    comparison: TimeComparison,
    format: str = "text",
    *,
    top: int | None = 20,
    width: int = 80,
    ascii: bool = False,
) -> str:
    """Return a comparison as text of a format, the ``top`` rows of each kind, all for ``None``.

    JSON and CSV hold every row; ``width`` and ``ascii`` are for ``text``.
    """
    if format == "json":
        return comparison.to_json()
    if format == "csv":
        return _csv(comparison)
    return render_page(_page(comparison, top), format, width=width, ascii=ascii)


def _page(comparison: TimeComparison, top: int | None) -> Page:
    total = comparison.total
    verdict = (
        f"predicted {format_milliseconds(total.predicted_ms)}, "
        f"measured {format_milliseconds(total.measured_ms)}: {_ratio(total)} of it."
    )
    tables = [
        Table(
            title="", columns=(Column(title="Phase", is_number=False), *_COLUMNS),
            rows=tuple((row.name, *_figures(row)) for row in (*comparison.phases, total)),
        ),
        _table("Modules by themselves, the worst first", "Module", comparison.modules, top),
    ]  # fmt: skip
    if comparison.operators:
        title = "Operators, the worst first"
        tables.append(_table(title, "Operator", comparison.operators, top))
    notes = [
        f"{len(rows) - top} more {what} in JSON and CSV"
        for what, rows in (("modules", comparison.modules), ("operators", comparison.operators))
        if top is not None and len(rows) > top
    ]
    return Page(
        head=(
            comparison.model_name,
            f"predicted for {comparison.predicted_on}",
            f"measured on {comparison.measured_on}",
        ),
        verdict=(verdict,),
        tables=tuple(tables),
        facts=(),
        notes=tuple(notes),
    )


def _table(title: str, what: str, rows: Iterable[TimeRow], top: int | None) -> Table:
    shown = tuple(rows)[:top]
    return Table(
        title=title,
        columns=(Column(title=what, is_number=False), Column(title="Kind", is_number=False),
                 *_COLUMNS),
        rows=tuple((row.name or "(root)", row.kind or "–", *_figures(row)) for row in shown),
    )  # fmt: skip


def _figures(row: TimeRow) -> tuple[str, str, str]:
    return (
        format_milliseconds(row.predicted_ms),
        format_milliseconds(row.measured_ms),
        _ratio(row),
    )


def _ratio(row: TimeRow) -> str:
    return "–" if row.ratio is None else f"{row.ratio:.2f}×"


def _csv(comparison: TimeComparison) -> str:
    """One row per phase, module and operator; milliseconds as plain numbers."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("row", "name", "kind", "predicted_ms", "measured_ms", "ratio"))
    groups = (
        ("total", (comparison.total,)),
        ("phase", comparison.phases),
        ("module", comparison.modules),
        ("operator", comparison.operators),
    )
    for group, rows in groups:
        for row in rows:
            label = "outside" if row.name == OUTSIDE else group
            ratio = "" if row.ratio is None else f"{row.ratio:.6g}"
            writer.writerow(
                (label, safe(row.name), safe(row.kind), row.predicted_ms, row.measured_ms, ratio)
            )
    return stream.getvalue().rstrip("\n")
