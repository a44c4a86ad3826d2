"""A report's modules as a table: sorted, cut at a depth, folded; and as figures for programs.

**Which rows sum to the totals.** A row's parameters, MACs and bytes are those of its whole
subtree (of all copies, in a folded row). The rows that nothing is shown below, which are layers,
containers cut off by ``depth``, bare parameters and ``(functional)`` rows, sum to the totals; an
expanded container repeats the sum of the rows below it. A parameter that is shared is counted
where it is first met; where it repeats its size stands in parentheses and adds nothing. The work
of a module that is called from several places stands in its first row. Of measured times, what
a container takes itself is part of its own row and has a ``(functional)`` row only where it
is worth one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.render.page import Cell, Data, Row, Table, Weight
from torchgauge.render.tree.columns import (
    LAYER,
    OWNED_FIELDS,
    TIME_FIELDS,
    TreeColumn,
    cell,
    check_columns,
    chosen_columns,
    raw_value,
)
from torchgauge.render.tree.marks import is_frozen, marks_of
from torchgauge.render.tree.parts import Kind, Part, build_parts

_SHARED = ("params", "trainable", "param_bytes")


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """A part of the model with its row of the table."""

    part: Part
    row: Row
    expanded: bool
    """Its children follow, and their figures are part of this row's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeOptions:
    """Which modules and columns a table of modules shows.

    Raises:
        UsageError: for an unknown column or a depth below 1.
    """

    depth: int | None = None
    """Levels of modules; ``None`` for all."""
    columns: Sequence[str] | None = None
    """Names of columns, in this order; ``None`` for those that fit the scenario."""
    expand: bool = False
    """Show every repeated block, every different call and every output."""

    def __post_init__(self) -> None:
        if self.depth is not None and self.depth < 1:
            raise UsageError(f"depth={self.depth} shows nothing", hint="use 1 or more")
        if self.columns is not None:
            check_columns(self.columns)


class ModuleTable:
    """The rows of a report's modules."""

    def __init__(self, report: Report, options: TreeOptions) -> None:
        self._report = report
        self._options = options
        self.columns = chosen_columns(report, options.columns)
        fields = {column.field for column in self.columns if column.field}
        work = fields - OWNED_FIELDS - TIME_FIELDS - {"peak_allocated_bytes"}
        self._root = build_parts(report, expand=options.expand, work=work)
        self.rows = tuple(self._from_root(self._root))

    def table(self) -> Table:
        """Return the table that people read."""
        columns = (LAYER.shown, *(column.shown for column in self.columns))
        return Table(columns=columns, rows=tuple(item.row for item in self.rows))

    def data(self) -> Data:
        """Return the figures; the rows with ``summed`` = 1 add up to the totals."""
        names = [column.raw_name or column.name for column in self.columns]
        rows = [
            (
                item.part.label,
                item.part.copies,
                not item.expanded and item.part.kind is not Kind.CALLS,
                *(raw_value(column, item.part, self._report) for column in self.columns),
                "; ".join(remark.full for remark in item.row.remarks),
            )
            for item in self.rows
        ]
        columns = ("layer", "copies", "summed", *names, "remarks")
        return Data(columns=columns, rows=tuple(rows), is_complete=False)

    def legend(self) -> Iterator[str]:
        """Yield what the signs in the table mean."""
        if any(item.part.fold > 1 for item in self.rows):
            yield "× N: N equal siblings in one row; figures there and below are sums of all N"
        if any(item.part.kind is Kind.WORK for item in self.rows):
            yield "(functional): what a module computes itself, outside its sub-modules"
        shared = [index + 1 for index, item in enumerate(self.columns) if item.name in _SHARED]
        if any(item.row.cells[index].full[:1] == "(" for item in self.rows for index in shared):
            yield "(1,234): shared parameters, counted in another row"

    def _from_root(self, root: Part) -> Iterator[ModuleRow]:
        if not root.children or root.children[0].kind is Kind.CALLS:
            yield from self._part(root, level=0, is_last=True, parent_frozen=False)
            return
        yield from self._below(root, level=0, parent_frozen=is_frozen(root))

    def _below(self, part: Part, level: int, parent_frozen: bool) -> Iterator[ModuleRow]:
        for child in part.children:
            last = child is part.children[-1]
            yield from self._part(child, level=level, is_last=last, parent_frozen=parent_frozen)

    def _part(
        self, part: Part, *, level: int, is_last: bool, parent_frozen: bool
    ) -> Iterator[ModuleRow]:
        below, depth = part.children, self._options.depth
        opens = bool(below) and (below[0].kind is Kind.CALLS or depth is None or part.depth < depth)
        is_list = part.module is not None and not part.module.has_forward
        if opens and len(below) == 1 and below[0].fold > 1 and is_list:
            # ``layers`` and its only row ``0–31`` become one: ``layers.0–31``.
            block = replace(below[0], name=f"{part.name}.{below[0].name}")
            yield from self._part(block, level=level, is_last=is_last, parent_frozen=parent_frozen)
            return
        expanded = opens and below[0].kind is not Kind.CALLS
        yield ModuleRow(part, self._row(part, level, is_last, expanded, parent_frozen), expanded)
        if opens:
            yield from self._below(part, level + 1, parent_frozen or is_frozen(part))

    def _share(self, column: TreeColumn, part: Part) -> float:
        """Return how much of the model's total a figure is; a peak is no part of a sum."""
        if column.field is None or column.name == "peak":
            return 0.0
        whole = getattr(self._root.cost, column.field)
        return float(getattr(part.cost, column.field) / whole) if whole else 0.0

    def _row(
        self, part: Part, level: int, is_last: bool, expanded: bool, parent_frozen: bool
    ) -> Row:
        report, options = self._report, self._options
        remarks = marks_of(part, report, expanded=expanded, parent_frozen=parent_frozen)
        weight = Weight.PLAIN if part.kind is Kind.MODULE else Weight.QUIET
        if any(remark.short == "failed" for remark in remarks):
            weight = Weight.ALERT
        elif expanded:
            weight = Weight.STRONG
        cells = [
            Cell(made.variants, share=0.0 if expanded else self._share(column, part))
            for column in self.columns
            for made in [cell(column, part, report, expanded=expanded, expand_all=options.expand)]
        ]
        return Row(
            cells=(Cell((part.name,)), *cells),
            path=part.label,
            count=part.fold,
            level=level,
            is_last=is_last,
            remarks=remarks,
            weight=weight,
        )
