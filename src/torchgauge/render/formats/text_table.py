"""A table as lines of text: columns are left out before a word, a shape or a figure is cut.

Where the width is short, first the type of a layer moves into its name's column, then remarks and
cells take their shorter form, then columns are left out, those of the lowest ``keep`` first. Names
are cut only when no more than one other column is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len

from torchgauge.render.layout import pad, shorten, wrap
from torchgauge.render.page import Column, Row, Table

_GAP = 2
_SMALLEST_TEXT = 20
"""Characters that a column of sentences keeps."""
_READABLE = 6
"""Characters of a name that are worth keeping before its remark."""
_ENDLESS = 1 << 20


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters that lines and trees are drawn with."""

    tee: str
    corner: str
    bar: str
    rule: str
    ellipsis: str
    dot: str


UNICODE = Signs("├─ ", "└─ ", "│  ", "─", "…", "·")
ASCII = Signs("|- ", "`- ", "|  ", "-", "..", "|")


@dataclass(frozen=True, slots=True)
class _Form:
    """How the first column is written."""

    joined: bool
    """The type stands after the name."""
    short: bool
    """Remarks and cells take their shorter form."""


_FORMS = (_Form(False, False), _Form(True, False), _Form(True, True))


class TextTable:
    """The columns of a table that fit into a width, and its lines."""

    def __init__(self, table: Table, width: int | None, signs: Signs) -> None:
        self._table = table
        self._columns = table.columns
        self._room = _ENDLESS if width is None else width
        self._signs = signs
        self._trees = list(self._drawn_trees())
        self._names: dict[tuple[_Form, frozenset[str]], list[str]] = {}
        self.kept, self._form, self._widths = self._fitted()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Return the titles of the columns that have no room."""
        joined = self._form.joined
        return tuple(
            column.title for column in self._columns
            if column not in self.kept and not (joined and column in self._joining)
        )  # fmt: skip

    def head(self) -> str:
        """Return the line of titles."""
        texts = [
            shorten(column.title, width, self._signs.ellipsis)
            for column, width in zip(self.kept, self._widths, strict=True)
        ]
        return self._line(texts)

    def rule(self) -> str:
        """Return a line as wide as the table."""
        return self._signs.rule * (sum(self._widths) + _GAP * (len(self._widths) - 1))

    def rows(self) -> Iterator[tuple[Row, list[str]]]:
        """Yield each row with its lines; all but those of sentences have one."""
        names = self._names_in(self._form, self._titles(self.kept))
        for index, row in enumerate(self._table.rows):
            texts = [names[index], *(self._cell(row, column) for column in self.kept[1:])]
            lines = [
                list(wrap([text], width, indent="  ")) if column.wraps
                else [self._cut(text, width)]
                for text, column, width in zip(texts, self.kept, self._widths, strict=True)
            ]  # fmt: skip
            height = max(map(len, lines))
            yield (
                row,
                [
                    self._line([line[i] if i < len(line) else "" for line in lines])
                    for i in range(height)
                ],
            )

    # ------------------------------------------------------------------------ what fits

    def _fitted(self) -> tuple[tuple[Column, ...], _Form, list[int]]:
        kept = list(self._columns)
        while True:
            for form in _FORMS:
                shown = tuple(
                    column for column in kept if not (form.joined and column in self._joining)
                )
                self._joined_now = tuple(column for column in kept if column in self._joining)
                widths = self._sized(shown, form)
                if widths is not None:
                    return shown, form, widths
            if len(kept) <= 2:
                return self._squeezed(tuple(kept))
            kept.remove(min(kept[1:], key=lambda column: column.keep))
            self._names.clear()

    def _sized(self, shown: tuple[Column, ...], form: _Form) -> list[int] | None:
        """Return the widths of columns that fit; sentences take the room that is left."""
        widths = [self._natural(column, shown, form) for column in shown]
        least = [
            min(width, _SMALLEST_TEXT) if column.wraps else width
            for column, width in zip(shown, widths, strict=True)
        ]
        room = self._room - _GAP * (len(shown) - 1)
        spare = room - sum(least)
        if spare < 0:
            return None
        for index, column in enumerate(shown):
            if column.wraps:
                more = min(widths[index] - least[index], spare)
                least[index] += more
                spare -= more
        return least

    def _squeezed(self, kept: tuple[Column, ...]) -> tuple[tuple[Column, ...], _Form, list[int]]:
        """Return the names, cut if need be, and the last other column where it has room."""
        form = _Form(joined=False, short=True)
        self._joined_now = ()
        if len(kept) == 2:
            width = self._natural(kept[1], kept, form)
            room = self._room - _GAP - width
            if room >= _SMALLEST_TEXT:
                return kept, form, [min(self._natural(kept[0], kept, form), room), width]
        return kept[:1], form, [min(self._natural(kept[0], kept[:1], form), self._room)]

    @cached_property
    def _joining(self) -> tuple[Column, ...]:
        return tuple(column for column in self._columns if column.joins_name)

    def _titles(self, shown: tuple[Column, ...]) -> frozenset[str]:
        return frozenset(column.title for column in shown)

    def _natural(self, column: Column, shown: tuple[Column, ...], form: _Form) -> int:
        if column is self._columns[0]:
            texts = self._names_in(form, self._titles(shown))
        else:
            pick = -1 if form.short else 0
            texts = [self._variants(row, column)[pick] for row in self._table.rows]
        return max([cell_len(column.title), *map(cell_len, texts)])

    # ------------------------------------------------------------------------ what is written

    def _variants(self, row: Row, column: Column) -> tuple[str, ...]:
        instead = next((item for item in row.remarks if item.instead_of == column.title), None)
        if instead is not None:
            return instead.full, instead.short
        return row.cells[self._columns.index(column)].variants

    def _cell(self, row: Row, column: Column) -> str:
        width = self._widths[self.kept.index(column)]
        variants = self._variants(row, column)
        fitting = (text for text in variants if column.wraps or cell_len(text) <= width)
        return next(fitting, variants[-1])

    def _names_in(self, form: _Form, titles: frozenset[str]) -> list[str]:
        key = (form, titles)
        if key not in self._names:
            self._names[key] = [
                self._name(row, tree, form, titles)
                for row, tree in zip(self._table.rows, self._trees, strict=True)
            ]
        return self._names[key]

    def _name(self, row: Row, tree: str, form: _Form, titles: frozenset[str]) -> str:
        name = row.cells[0].full
        if form.joined:
            kinds = [row.cells[self._columns.index(column)].full for column in self._joined_now]
            name = " ".join(text for text in (name, *kinds) if text)
        if row.count > 1:
            name += f" {'x' if self._signs is ASCII else '×'} {row.count}"
        remarks = [item for item in row.remarks if item.instead_of not in titles]
        if not remarks:
            return tree + name
        texts = [item.short if form.short else item.full for item in remarks]
        return f"{tree}{name} ({', '.join(texts)})"

    def _cut(self, text: str, width: int) -> str:
        if cell_len(text) <= width:
            return text
        name, bracket, mark = text.rpartition(" (")
        room = width - cell_len(bracket + mark)
        if mark.endswith(")") and room >= _READABLE:
            return shorten(name, room, self._signs.ellipsis) + bracket + mark
        return shorten(text, width, self._signs.ellipsis)

    def _line(self, texts: list[str]) -> str:
        padded = [
            pad(text, width, right=column.is_number)
            for text, column, width in zip(texts, self.kept, self._widths, strict=True)
        ]
        return (" " * _GAP).join(padded).rstrip()

    def _drawn_trees(self) -> Iterator[str]:
        """Yield what stands before each row's name."""
        open_levels: dict[int, bool] = {}
        for row in self._table.rows:
            open_levels[row.level] = not row.is_last
            bars = "".join(
                self._signs.bar if open_levels.get(level) else "   "
                for level in range(1, row.level)
            )
            end = self._signs.corner if row.is_last else self._signs.tee
            yield bars + end if row.level else ""
