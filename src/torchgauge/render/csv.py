"""A report as CSV, for spreadsheets and scripts: raw numbers with the unit in the column's name.

What is no row stands in lines that begin with ``#`` and come first, so that
``pandas.read_csv(…, comment="#")`` and the like pass over them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchgauge.facts.report import Report
from torchgauge.render.view import Row, View, build_view, check_options, summed_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvRenderer:
    """Write the table as CSV. Rows with ``summed`` = 1 add up to the totals, the others repeat.

    Raises:
        UsageError: for an unknown column or a depth below 1.
    """

    depth: int | None = None
    """Levels of modules to show."""
    columns: Sequence[str] | None = None
    """Names of columns, in this order."""
    unfold: bool = False
    """Show every repeated block, every different call and every output."""

    def __post_init__(self) -> None:
        check_options(self.depth, self.columns)

    def render(self, report: Report) -> str:
        """Return the report as CSV; the last line has no newline."""
        view = build_view(report, depth=self.depth, columns=self.columns, unfold=self.unfold)
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        names = [column.raw_name or column.name for column in view.columns]
        writer.writerow(["layer", "copies", "summed", *names, "remarks"])
        summed = {id(row) for row in summed_rows(view.rows)}
        for row in view.rows:
            writer.writerow(_cells(row, view, id(row) in summed))
        return "\n".join(
            [*(f"# {text}" for text in _comments(view)), stream.getvalue().rstrip("\n")]
        )


def safe(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula.

    >>> safe("=1+1"), safe("conv1")
    ("'=1+1", 'conv1')
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _cells(row: Row, view: View, summed: bool) -> Iterator[object]:
    yield safe(row.label)
    yield row.copies
    yield int(summed)
    for column in view.columns:
        value = row.raw[column.name]
        yield safe(value) if isinstance(value, str) else "" if value is None else value
    yield "; ".join(mark.full for mark in row.marks)


def _comments(view: View) -> Iterator[str]:
    yield " · ".join(view.title)
    for answer in view.answers:
        yield f"{answer.label}: {' · '.join(answer.segments)}"
    for line in view.footer:
        yield f"{line.label}: {line.value}" + (f" ({line.remark})" if line.remark else "")
    if view.failure is not None:
        yield f"Failed at {view.failure.where}"
        yield from (f"input: {text}" for text in view.failure.inputs)
        yield from (f"error: {text}" for text in view.failure.error)
        if view.failure.hint:
            yield f"try: {view.failure.hint}"
    for note in view.notes:
        yield from (f"{note.heading}: {text}" for text in note.lines)
