"""A report as plain text for a terminal, a log or a README."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.style import Style

from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.render.columns import LAYER, Column
from torchgauge.render.layout import ColumnSize, fit, pad, shorten, wrap
from torchgauge.render.marks import Mark
from torchgauge.render.parts import Kind
from torchgauge.render.shapes import to_ascii
from torchgauge.render.view import Row, View, build_view, check_options

DEFAULT_WIDTH = 80
SMALLEST_WIDTH = 40

_LABEL_WIDTH = 13
_NO_BREAK = "\u00a0"
_KEPT_TOGETHER = re.compile(r"(?<=\d) (?=%|[KMGTPE]?(i?B|MACs|FLOPs)\b)|(?<=\d %) |(?<=<) ")
_SOFT_WIDTHS = {"layer": (24, 16), "type": (12, 8), "dtype": (8,)}
"""Widths to which names are cut where room is short. Shapes and figures never are."""
_ENDLESS = 1 << 20
_BOLD, _DIM, _RED = Style(bold=True), Style(dim=True), Style(color="red", bold=True)
_PLAIN = Style()


@dataclass(frozen=True, slots=True)
class _Signs:
    tee: str
    corner: str
    bar: str
    rule: str
    ellipsis: str
    dot: str


_UNICODE = _Signs("├─ ", "└─ ", "│  ", "─", "…", "·")
_ASCII = _Signs("|- ", "`- ", "|  ", "-", "..", "|")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRenderer:
    """Write a report as a table with its answers before and its notes after it.

    No line is wider than ``width`` and none ends in spaces. Where the width is short, names are
    cut, then columns left out, which a line under the table says; shapes and figures stay whole.

    Raises:
        UsageError: for an unknown column, a depth below 1, or a width below 40.
    """

    width: int | None = None
    """Characters per line, as a terminal counts them. Without it the table takes what it needs
    and sentences are wrapped at 80."""
    ascii: bool = False
    """Use ASCII characters alone."""
    color: bool = False
    """Style the same text with ANSI codes."""
    depth: int | None = None
    """Levels of modules to show."""
    columns: Sequence[str] | None = None
    """Names of columns, in this order."""
    unfold: bool = False
    """Show every repeated block, every different call and every output."""

    def __post_init__(self) -> None:
        check_options(self.depth, self.columns)
        if self.width is not None and self.width < SMALLEST_WIDTH:
            raise UsageError(
                f"width={self.width} is too narrow for a table",
                hint=f"use {SMALLEST_WIDTH} or more",
            )

    def render(self, report: Report) -> str:
        """Return the report as text; the last line has no newline."""
        view = build_view(report, depth=self.depth, columns=self.columns, unfold=self.unfold)
        page = _Page(view, self.width, ascii=self.ascii, color=self.color)
        return "\n".join(page.lines())


class _Page:
    def __init__(self, view: View, width: int | None, *, ascii: bool, color: bool) -> None:
        self._view = view
        self._width = width or DEFAULT_WIDTH
        self._table_width = width or _ENDLESS
        self._ascii = ascii
        self._color = color
        self._signs = _ASCII if ascii else _UNICODE

    def lines(self) -> Iterator[str]:
        yield from self._title()
        yield ""
        for answer in self._view.answers:
            yield from self._labelled(answer.label, answer.segments)
        yield ""
        yield from self._table()
        yield from self._failure()
        yield ""
        yield from self._footer()
        for note in self._view.notes:
            yield ""
            yield self._style(f" {self._text(note.heading)}", _BOLD)
            for text in note.lines:
                yield from self._wrap((text,), first="   ", indent="     ")

    # ------------------------------------------------------------------------ around the table

    def _title(self) -> Iterator[str]:
        for line in self._wrap(self._view.title, first="", indent="  "):
            yield self._style(line, _BOLD)

    def _labelled(self, label: str, segments: Sequence[str]) -> Iterator[str]:
        indent = " " * (_LABEL_WIDTH + 1)
        first, *rest = self._wrap(segments, first=indent, indent=indent)
        text = pad(f" {self._text(label)}", _LABEL_WIDTH + 1)
        yield self._style(text, _BOLD) + first.removeprefix(indent)
        yield from rest

    def _footer(self) -> Iterator[str]:
        lines = self._view.footer
        label_width = max(len(line.label) for line in lines)
        value_width = max(len(line.value) for line in lines)
        aligned = label_width + value_width + 3 <= self._width
        for line in lines:
            text = f" {pad(line.label, label_width)}  {pad(line.value, value_width, right=True)}"
            if not aligned:
                *full, text = self._wrap((f"{line.label}  {line.value}",), first=" ", indent="   ")
                yield from full
            if not line.remark:
                yield text
                continue
            remark = self._text(f"({line.remark})")
            if cell_len(f"{text}  {remark}") <= self._width:
                yield f"{text}  {self._style(remark, _DIM)}"
                continue
            yield text
            for rest in self._wrap((remark,), first="   ", indent="   "):
                yield self._style(rest, _DIM)

    def _failure(self) -> Iterator[str]:
        failure = self._view.failure
        if failure is None:
            return
        yield ""
        for line in self._wrap((f"Failed at {failure.where}",), first=" ", indent="   "):
            yield self._style(line, _RED)
        for number, text in enumerate(failure.inputs or ("no inputs",)):
            yield from self._entry("input" if number == 0 else "", text)
        for number, text in enumerate(failure.error):
            yield from self._entry("error" if number == 0 else "", text)
        if failure.hint:
            yield from self._entry("try", failure.hint)

    def _entry(self, label: str, text: str) -> Iterator[str]:
        yield from self._wrap((text,), first=pad(f"   {label}", 10), indent=" " * 10)

    def _wrap(self, segments: Sequence[str], *, first: str, indent: str) -> Iterator[str]:
        texts = [_KEPT_TOGETHER.sub(_NO_BREAK, self._text(segment)) for segment in segments]
        lines = wrap(texts, self._width, first=first, indent=indent, dot=self._signs.dot)
        return (line.replace(_NO_BREAK, " ") for line in lines)

    # ------------------------------------------------------------------------ the table

    def _table(self) -> Iterator[str]:
        columns = (LAYER, *self._view.columns)
        has_output = any(column.name == "output" for column in columns)
        cells, widths, gap = self._fitted(columns, remarks_in_output=has_output)
        if has_output and "output" not in widths:
            cells, widths, gap = self._fitted(columns, remarks_in_output=False)
        kept = [column for column in columns if column.name in widths]
        heads = [
            pad(
                shorten(self._text(column.title), widths[column.name], self._signs.ellipsis),
                widths[column.name],
                right=column.is_number,
            )
            for column in kept
        ]
        space = " " * gap
        rule = " " + self._signs.rule * (sum(widths.values()) + gap * (len(kept) - 1))
        yield self._style((" " + space.join(heads)).rstrip(), _BOLD)
        yield self._style(rule, _DIM)
        for index, row in enumerate(self._view.rows):
            texts = {column.name: cells[column.name][index] for column in kept}
            yield self._row(row, kept, texts, widths, space)
        yield self._style(rule, _DIM)
        dropped = [column.title for column in columns if column.name not in widths]
        if dropped:
            text = f"no room at width {self._table_width}: {', '.join(dropped)}"
            for line in self._wrap((text,), first=" ", indent="   "):
                yield self._style(line, _DIM)

    def _fitted(
        self, columns: Sequence[Column], *, remarks_in_output: bool
    ) -> tuple[dict[str, list[tuple[str, ...]]], dict[str, int], int]:
        """Return the cells of each column, the widths of those that fit, and the gap."""
        cells: dict[str, list[tuple[str, ...]]] = {column.name: [] for column in columns}
        for row, tree in zip(self._view.rows, self._trees(), strict=True):
            in_name = list(row.marks)
            for column in columns[1:]:
                texts = tuple(self._text(text) for text in row.cells[column.name].variants)
                instead = next((mark for mark in in_name if mark.instead_of_output), None)
                if column.name == "output" and remarks_in_output and instead is not None:
                    in_name.remove(instead)
                    texts = (self._text(instead.full), self._text(instead.short))
                cells[column.name].append(texts)
            cells[LAYER.name].append(self._name(row, tree, in_name))
        sizes = [self._size(column, cells[column.name]) for column in columns]
        natural = sum(size.widths[0] for size in sizes)
        gap = 3 if natural + 3 * (len(sizes) - 1) < self._width else 2
        return cells, fit(sizes, self._table_width - 1, gap), gap

    def _row(
        self,
        row: Row,
        columns: Sequence[Column],
        texts: dict[str, tuple[str, ...]],
        widths: dict[str, int],
        space: str,
    ) -> str:
        done = []
        for column in columns:
            text = self._chosen(texts[column.name], widths[column.name])
            done.append(pad(text, widths[column.name], right=column.is_number))
        line = (" " + space.join(done)).rstrip()
        if not self._color:
            return line
        if row.failed:
            return self._style(line, _RED)
        tree = len(line) - len(line.lstrip(" │├└─|`-"))
        style = _BOLD if row.expanded else _DIM if row.kind is not Kind.MODULE else _PLAIN
        return self._style(line[:tree], _DIM) + self._style(line[tree:], style)

    def _trees(self) -> Iterator[str]:
        """Yield what stands before each row's name."""
        open_levels: dict[int, bool] = {}
        for row in self._view.rows:
            open_levels[row.level] = not row.is_last
            bars = "".join(
                self._signs.bar if open_levels[level] else "   " for level in range(1, row.level)
            )
            end = self._signs.corner if row.is_last else self._signs.tee
            yield bars + end if row.level else ""

    def _name(self, row: Row, tree: str, marks: Sequence[Mark]) -> tuple[str, ...]:
        """Return the first cell of a row: tree, name and marks, and shorter forms of it."""
        name = self._text(f"{row.name} × {row.fold}" if row.fold > 1 else row.name)
        if not marks:
            return (f"{tree}{name}",)
        remarks = [", ".join(mark.full for mark in marks), ", ".join(mark.short for mark in marks)]
        if len(marks) > 1:
            remarks.append(f"{marks[0].short}, …")
        return tuple(f"{tree}{name} ({self._text(text)})" for text in dict.fromkeys(remarks))

    def _size(self, column: Column, cells: Sequence[tuple[str, ...]]) -> ColumnSize:
        title = cell_len(column.title)
        longest = max((cell_len(variants[0]) for variants in cells), default=0)
        shorter = max((cell_len(variants[-1]) for variants in cells), default=0)
        widths = [max(title, longest), max(title, shorter)]
        widths += [max(width, 5) for width in _SOFT_WIDTHS.get(column.name, ())]
        steps = [min(widths[: index + 1]) for index in range(len(widths))]
        return ColumnSize(column.name, tuple(steps), column.importance)

    def _chosen(self, variants: tuple[str, ...], width: int) -> str:
        for text in variants:
            if cell_len(text) <= width:
                return text
        name, bracket, mark = variants[-1].rpartition(" (")
        room = width - cell_len(bracket + mark)
        if mark.endswith(")") and room >= 6:  # the remark stays readable, the name is cut
            return shorten(name, room, self._signs.ellipsis) + bracket + mark
        return shorten(variants[-1], width, self._signs.ellipsis)

    def _text(self, text: str) -> str:
        return to_ascii(text) if self._ascii else text

    def _style(self, text: str, style: Style) -> str:
        if not self._color or not text:
            return text
        return style.render(text, color_system=ColorSystem.STANDARD)
