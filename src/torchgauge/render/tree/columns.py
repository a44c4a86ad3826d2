"""The columns that a table can have: what each is called, shows and weighs when room is short."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torchgauge.errors import UsageError
from torchgauge.facts.query import has_run
from torchgauge.facts.report import Report
from torchgauge.render.page import Cell, Column
from torchgauge.render.shapes import dtype_text, shape_of, values_cell
from torchgauge.render.tree.marks import OUTPUT
from torchgauge.render.tree.parts import Kind, Part
from torchgauge.units import (
    format_bytes,
    format_cell_share,
    format_count,
    format_integer,
    format_milliseconds,
)

NOTHING = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeColumn:
    """One column of the table."""

    name: str
    title: str
    keep: int
    """Where width is short, the column with the lowest figure is left out first."""
    field: str | None = None
    """The field of ``Cost`` that is shown; ``None`` for a column of text."""
    raw_name: str = ""
    """What the column is called where raw numbers are written, with the unit."""
    write: Callable[[Any], str] = format_count
    scale: int = 1

    @property
    def is_number(self) -> bool:
        """Return whether the column holds figures, set flush right."""
        return self.field is not None or self.name in ("calls", "percent", "time_percent")

    @property
    def shown(self) -> Column:
        """Return the column as a page has it."""
        return Column(
            title=self.title,
            is_number=self.is_number,
            keep=self.keep,
            joins_name=self.name == "type",
            is_code=not self.is_number,
        )


LAYER = TreeColumn(name="layer", title="Layer", keep=1000)


def _number(
    name: str, title: str, keep: int, field: str, write: Callable[[Any], str] = format_count
) -> TreeColumn:
    return TreeColumn(name=name, title=title, keep=keep, field=field, raw_name=field, write=write)


def _columns() -> Iterator[TreeColumn]:
    yield TreeColumn(name="type", title="Type", keep=69)
    yield TreeColumn(name="input", title="Input shape", keep=40)
    yield TreeColumn(name="output", title=OUTPUT, keep=70)
    yield TreeColumn(name="dtype", title="Dtype", keep=20)
    yield TreeColumn(name="calls", title="Calls", keep=30)
    yield _number("params", "Params", 100, "params", format_integer)
    yield TreeColumn(name="percent", title="Params %", keep=35)
    yield _number("trainable", "Trainable", 36, "trainable_params", format_integer)
    yield _number("param_bytes", "Param size", 37, "param_bytes", format_bytes)
    macs = _number("macs", "MACs", 80, "macs")
    yield replace(macs, raw_name="forward_macs")
    yield replace(macs, name="flops", title="FLOPs", keep=60, scale=2, raw_name="forward_flops")
    yield _number("backward_flops", "Bwd FLOPs", 55, "backward_flops")
    yield _number("elementwise", "Element-wise", 50, "elementwise_flops")
    yield _number("activation", "Activation", 65, "activation_bytes", format_bytes)
    yield _number("saved", "Saved", 66, "saved_activation_bytes", format_bytes)
    yield _number("gradients", "Gradients", 46, "gradient_bytes", format_bytes)
    yield _number("peak", "Peak", 45, "peak_allocated_bytes", format_bytes)
    yield _number("time", "Time", 95, "time_ms", format_milliseconds)
    yield _number("backward_time", "Bwd time", 44, "backward_time_ms", format_milliseconds)
    yield TreeColumn(name="time_percent", title="Time %", keep=94)


COLUMNS = {column.name: column for column in _columns()}
"""Every column by its name; the layer's name always stands before them."""

PARAMETER_FIELDS = frozenset({"params", "trainable_params", "param_bytes"})
OWNED_FIELDS = PARAMETER_FIELDS | {"gradient_bytes"}
"""Fields that belong to parameters and not to work that was done."""
TIME_FIELDS = frozenset({"time_ms", "backward_time_ms"})


def chosen_columns(report: Report, names: Sequence[str] | None) -> tuple[TreeColumn, ...]:
    """Return the columns that were asked for, else those that fit what the report holds."""
    if names is not None:
        check_columns(names)
        return tuple(COLUMNS[name] for name in dict.fromkeys(names) if name != "layer")
    if not has_run(report):
        defaults: tuple[str, ...] = ("type", "params", "percent")
    elif report.time is not None and report.time.measured is not None:
        defaults = ("type", "output", "macs", "time", "time_percent")
    else:
        kept = "saved" if report.scenario.is_training else "activation"
        defaults = ("type", "output", "params", "macs", kept)
        if report.time is not None:
            defaults = (*defaults, "time")
    return tuple(COLUMNS[name] for name in defaults)


def check_columns(names: Sequence[str]) -> None:
    """Check column names.

    Raises:
        UsageError: for a name that is no column.
    """
    for name in names:
        if name not in COLUMNS and name != "layer":
            raise UsageError(
                f"unknown column {name!r}", hint="the columns are " + ", ".join(COLUMNS)
            )


def raw_value(column: TreeColumn, part: Part, report: Report) -> int | float | str | None:
    """Return what a column holds for a part before it is written; ``None`` for nothing."""
    if column.field is not None:
        value: float = getattr(part.cost, column.field) * column.scale
        return round(value, 6) if column.field in TIME_FIELDS else value
    if column.name == "calls":
        return len(part.calls) * part.copies if part.kind in (Kind.MODULE, Kind.CALLS) else None
    if column.name == "percent":
        whole = report.totals.params
        return round(100.0 * part.cost.params / whole, 4) if whole else None
    if column.name == "time_percent":
        return round(100.0 * part.cost.time_ms / report.time.total_ms, 4) if report.time else None
    return _text_cell(column.name, part, report, expand_all=True).full.replace(NOTHING, "") or None


def cell(
    column: TreeColumn, part: Part, report: Report, *, expanded: bool, expand_all: bool
) -> Cell:
    """Write one cell. ``expanded`` says that the rows of the part's children follow."""
    if column.field is not None:
        return Cell((_figure(column, part, expanded=expanded),))
    if column.name == "percent":
        if not part.cost.params:
            return Cell((NOTHING,))
        return Cell((format_cell_share(part.cost.params, report.totals.params),))
    if column.name == "time_percent":
        if report.time is None or not part.cost.time_ms:
            return Cell((NOTHING,))
        return Cell((format_cell_share(part.cost.time_ms, report.time.total_ms),))
    if column.name == "calls":
        count = raw_value(column, part, report)
        return Cell((format_integer(int(count)) if count else NOTHING,))
    return _text_cell(column.name, part, report, expand_all=expand_all)


def _figure(column: TreeColumn, part: Part, *, expanded: bool) -> str:
    assert column.field is not None
    value: float = getattr(part.cost, column.field) * column.scale
    if value:
        # A container allocates nothing itself: its figure is the sum of the rows below it.
        if expanded and column.name == "activation":
            return ""
        return column.write(value)
    elsewhere = counted_elsewhere(part, column.field)
    return f"({column.write(elsewhere)})" if elsewhere else NOTHING


def counted_elsewhere(part: Part, field: str) -> int:
    """Return the size of parameters that are all counted in another row, else 0."""
    if field not in PARAMETER_FIELDS or part.cost.params:
        return 0
    if part.parameter is not None and part.parameter.shared_with is not None:
        item = part.parameter
        trainable = item.numel if item.trainable else 0
        sizes = {
            "params": item.numel, "trainable_params": trainable, "param_bytes": item.stored_bytes
        }  # fmt: skip
        return sizes[field] * part.copies
    if part.module is not None and part.kind is Kind.MODULE:
        return int(getattr(part.module, field)) * part.copies
    return 0


def _text_cell(name: str, part: Part, report: Report, *, expand_all: bool) -> Cell:
    if name == "type":
        return Cell((part.type,))
    if part.parameter is not None:
        item = part.parameter
        texts = {"output": shape_of(item.shape), "dtype": item.dtype}
        return Cell((texts.get(name, NOTHING),))
    call = part.calls[0] if part.calls else None
    if call is None:
        # Nobody expects a shape of functional work, or of a container without a forward.
        is_quiet = part.kind is Kind.WORK or not (part.module is None or part.module.has_forward)
        return Cell(("",) if is_quiet else (NOTHING,))
    if name == "input":
        return values_cell(call.inputs, report.batch_size, all_of_them=expand_all)
    values = call.outputs if call.completed else ()
    if name == "dtype":
        return Cell((dtype_text(values),))
    return values_cell(values, report.batch_size, all_of_them=expand_all)
