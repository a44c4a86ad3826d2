"""The one view of a report that all renderers write: sorted, cut, folded, as strings.

**Which rows sum to the totals.** A row's parameters, MACs and bytes are those of its whole
subtree (of all copies, in a folded row). The rows that nothing is shown below, which are layers,
containers cut off by ``depth``, bare parameters and ``(functional)`` rows, sum to the totals; an
expanded container repeats the sum of the rows below it. A parameter that is shared is counted
where it is first met; where it repeats its size stands in parentheses and adds nothing. The work
of a module that is called from several places stands in its first row. Of measured times, what
a container takes by itself is part of its own row and has a ``(functional)`` row only where it
is worth one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.render.answers import Answer, answers, title
from torchgauge.render.columns import (
    OWNED_FIELDS,
    TIME_FIELDS,
    Column,
    cell,
    check_columns,
    chosen_columns,
    raw_value,
)
from torchgauge.render.marks import Mark, is_frozen, marks_of
from torchgauge.render.notes import FailureView, FooterLine, Note, failure_view, footer, notes
from torchgauge.render.parts import Kind, Part, build_parts
from torchgauge.render.shapes import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table. Text only; ``raw`` holds the same figures for machines."""

    kind: Kind
    path: str
    label: str
    """The whole path for people, with folded indices: ``layers.0–11.fc1``."""
    name: str
    """The last part of it, for a tree."""
    level: int
    """0 for the rows that stand at the left."""
    is_last: bool
    """No sibling follows."""
    expanded: bool
    """Its children follow, and their figures are part of this row's."""
    fold: int
    """How many equal siblings this row stands for."""
    copies: int
    """How many modules it stands for, those in folded rows around it included."""
    marks: tuple[Mark, ...]
    cells: Mapping[str, Cell]
    raw: Mapping[str, int | float | str | None]
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything that a renderer writes, in the order in which it is read."""

    title: tuple[str, ...]
    """Segments of the first line."""
    answers: tuple[Answer, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footer: tuple[FooterLine, ...]
    failure: FailureView | None
    notes: tuple[Note, ...]


def check_options(depth: int | None, columns: Sequence[str] | None) -> None:
    """Check what a user chose.

    Raises:
        UsageError: for an unknown column or a depth below 1.
    """
    if depth is not None and depth < 1:
        raise UsageError(f"depth={depth} shows nothing", hint="use 1 or more")
    if columns is not None:
        check_columns(columns)


def build_view(
    report: Report,
    *,
    depth: int | None = None,
    columns: Sequence[str] | None = None,
    unfold: bool = False,
) -> View:
    """Return the view.

    Args:
        report: the report.
        depth: how many levels of modules to show; ``None`` for all.
        columns: names of columns; ``None`` for those that fit the scenario.
        unfold: show every repeated block, every different call and every output.

    Raises:
        UsageError: for an unknown column or a depth below 1.
    """
    check_options(depth, columns)
    shown = chosen_columns(report, columns)
    fields = {column.field for column in shown if column.field}
    work = fields - OWNED_FIELDS - TIME_FIELDS - {"peak_allocated_bytes"}
    parts = build_parts(report, unfold=unfold, work=work)
    table = _Table(report, shown, depth, unfold)
    rows = tuple(table.rows(parts))
    folded = build_parts(report)
    return View(
        title=title(report),
        answers=answers(report, folded),
        columns=shown,
        rows=rows,
        footer=footer(report),
        failure=failure_view(report),
        notes=notes(report, rows_note=_rows_notes(rows)),
    )


def summed_rows(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows that sum to the totals."""
    for row in rows:
        if not row.expanded and row.kind is not Kind.CALLS:
            yield row


class _Table:
    def __init__(
        self, report: Report, columns: tuple[Column, ...], depth: int | None, unfold: bool
    ) -> None:
        self._report = report
        self._columns = columns
        self._depth = depth
        self._unfold = unfold

    def rows(self, root: Part) -> Iterator[Row]:
        if not root.children or root.children[0].kind is Kind.CALLS:
            yield from self._part(root, level=0, is_last=True, parent_frozen=False)
            return
        yield from self._below(root, level=0, parent_frozen=is_frozen(root))

    def _below(self, part: Part, level: int, parent_frozen: bool) -> Iterator[Row]:
        for child in part.children:
            last = child is part.children[-1]
            yield from self._part(child, level=level, is_last=last, parent_frozen=parent_frozen)

    def _part(self, part: Part, *, level: int, is_last: bool, parent_frozen: bool) -> Iterator[Row]:
        below = part.children
        opens = bool(below) and (
            below[0].kind is Kind.CALLS or self._depth is None or part.depth < self._depth
        )
        if opens and len(below) == 1 and below[0].fold > 1 and _is_plain_list(part):
            # ``layers`` and its only row ``0–31`` become one: ``layers.0–31``.
            block = replace(below[0], name=f"{part.name}.{below[0].name}")
            yield from self._part(block, level=level, is_last=is_last, parent_frozen=parent_frozen)
            return
        expanded = opens and below[0].kind is not Kind.CALLS
        yield self._row(part, level, is_last, expanded, parent_frozen)
        if opens:
            yield from self._below(part, level + 1, parent_frozen or is_frozen(part))

    def _row(
        self, part: Part, level: int, is_last: bool, expanded: bool, parent_frozen: bool
    ) -> Row:
        report = self._report
        marks = marks_of(part, report, expanded=expanded, parent_frozen=parent_frozen)
        return Row(
            kind=part.kind,
            path=part.path,
            label=part.label,
            name=part.name,
            level=level,
            is_last=is_last,
            expanded=expanded,
            fold=part.fold,
            copies=part.copies,
            marks=marks,
            cells={
                column.name: cell(column, part, report, expanded=expanded, unfold=self._unfold)
                for column in self._columns
            },
            raw={column.name: raw_value(column, part, report) for column in self._columns},
            failed=any(mark.short == "failed" for mark in marks),
        )


def _is_plain_list(part: Part) -> bool:
    return part.module is not None and not part.module.has_forward


def _rows_notes(rows: Sequence[Row]) -> tuple[str, ...]:
    found = []
    if any(row.fold > 1 for row in rows):
        found.append(
            "× N: N equal siblings in one row; the figures there and below are sums of all N"
        )
    if any(row.kind is Kind.WORK for row in rows):
        found.append("(functional): what a module computes itself, outside its sub-modules")
    if any(cell.full.startswith("(") for row in rows for name, cell in row.cells.items()
           if name in ("params", "trainable", "param_bytes")):  # fmt: skip
        found.append("(1,234): shared parameters, counted in another row")
    return tuple(found)
