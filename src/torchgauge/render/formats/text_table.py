"""A table as lines of text: columns are left out before a word, a shape or a figure is cut.

Where the width is short, first the type of a layer moves into its name's column, then remarks and
cells take their shorter form, then columns are left out, those of the lowest ``keep`` first. Names
are cut only when no more than one other column is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len

from torchgauge.render.layout import pad, shorten, wrap
from torchgauge.render.page import Row, Table

_GAP = 2
_SMALLEST_TEXT = 20
"""Characters that a column of sentences keeps."""
_LARGEST_TEXT = 72
"""Characters after which a sentence goes on in the next line, however much room there is."""
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
    times: str


UNICODE = Signs("├─ ", "└─ ", "│  ", "─", "…", "·", "×")
ASCII = Signs("|- ", "`- ", "|  ", "-", "..", "|", "x")


_FORMS = ((False, False), (True, False), (True, True))
"""Whether the type stands after the name, and whether remarks and cells take a shorter form."""


class TextTable:
    """The columns of a table that fit into a width, and its lines."""

    def __init__(self, table: Table, width: int | None, signs: Signs) -> None:
        self._columns, self._rows = table.columns, table.rows
        self._room = _ENDLESS if width is None else width
        self._signs = signs
        self._trees = list(self._drawn_trees())
        self._sizes = [self._natural(index) for index in range(len(self._columns))]
        self._fit()

    @property
    def titles(self) -> list[str]:
        """Return the titles of the columns that are shown."""
        return [self._columns[index].title for index in self._shown]

    @property
    def left_out(self) -> list[str]:
        """Return the titles of the columns that have no room."""
        there = {*self._shown, *self._joined}
        return [item.title for index, item in enumerate(self._columns) if index not in there]

    def head(self) -> str:
        """Return the line of titles."""
        return self._line(
            shorten(title, width, self._signs.ellipsis)
            for title, width in zip(self.titles, self._widths, strict=True)
        )

    def rule(self) -> str:
        """Return a line as wide as the table."""
        return self._signs.rule * (sum(self._widths) + _GAP * (len(self._widths) - 1))

    def rows(self) -> Iterator[tuple[Row, list[str]]]:
        """Yield each row with its lines; all but those of sentences have one."""
        for row, name in zip(self._rows, self._names, strict=True):
            texts = [name, *(self._chosen(row, i) for i in range(1, len(self._shown)))]
            cells = [
                list(wrap([text], width, indent="  "))
                if self._columns[index].wraps
                else [self._cut(text, width)]
                for text, index, width in zip(texts, self._shown, self._widths, strict=True)
            ]
            yield row, [self._line(line) for line in zip_longest(*cells, fillvalue="")]

    # ------------------------------------------------------------------------ what fits

    def _fit(self) -> None:
        """Choose the columns, how the first one is written, and the widths."""
        kept = list(range(len(self._columns)))
        while not any(self._fits(kept, *form) for form in _FORMS):
            if len(kept) <= 2:
                self._squeeze(kept)
                return
            kept.remove(min(kept[1:], key=lambda index: self._columns[index].keep))

    def _fits(self, kept: list[int], is_joined: bool, is_short: bool) -> bool:
        self._joined = [i for i in kept if is_joined and self._columns[i].joins_name]
        self._shown = [i for i in kept if i not in self._joined]
        self._widths = self._natural_widths(is_short)
        least = [
            min(width, _SMALLEST_TEXT) if self._columns[index].wraps else width
            for index, width in zip(self._shown, self._widths, strict=True)
        ]
        spare = self._room - _GAP * (len(least) - 1) - sum(least)
        for place, width in enumerate(self._widths):  # sentences take the room that is left
            more = max(min(width - least[place], spare), 0)
            least[place] += more
            spare -= more
        self._widths = least
        return spare >= 0

    def _natural_widths(self, is_short: bool) -> list[int]:
        shown = {self._columns[index].title for index in self._shown}
        self._names = [
            self._name(row, tree, shown, is_short)
            for row, tree in zip(self._rows, self._trees, strict=True)
        ]
        first = max(map(cell_len, [self._columns[0].title, *self._names]))
        widths = [first, *(self._sizes[index][is_short] for index in self._shown[1:])]
        return [
            min(width, _LARGEST_TEXT) if self._columns[index].wraps else width
            for index, width in zip(self._shown, widths, strict=True)
        ]

    def _squeeze(self, kept: list[int]) -> None:
        """Cut the names, and leave the last other column out where that is not enough."""
        self._joined, self._shown = [], kept
        others = self._natural_widths(True)[1:]
        room = self._room - sum(_GAP + width for width in others)
        if others and room < _SMALLEST_TEXT:
            self._shown, others, room = kept[:1], [], self._room
        self._widths = [min(self._natural_widths(True)[0], room), *others]

    def _natural(self, index: int) -> tuple[int, int]:
        """Return the width of a column with whole cells, and with the shorter form of each."""
        variants = [self._variants(row, index) for row in self._rows]
        title = cell_len(self._columns[index].title)
        full = max((cell_len(texts[0]) for texts in variants), default=0)
        short = max((cell_len(texts[-1]) for texts in variants), default=0)
        return max(title, full), max(title, short)

    # ------------------------------------------------------------------------ what is written

    def _variants(self, row: Row, index: int) -> tuple[str, ...]:
        title = self._columns[index].title
        for remark in row.remarks:
            if remark.instead_of == title:
                return remark.full, remark.short
        return row.cells[index].variants

    def _chosen(self, row: Row, place: int) -> str:
        index, width = self._shown[place], self._widths[place]
        variants = self._variants(row, index)
        is_open = self._columns[index].wraps
        return next((text for text in variants if is_open or cell_len(text) <= width), variants[-1])

    def _name(self, row: Row, tree: str, shown: set[str], is_short: bool) -> str:
        kinds = (row.cells[index].full for index in self._joined)
        name = " ".join(text for text in (row.cells[0].full, *kinds) if text)
        if row.count > 1:
            name += f" {self._signs.times} {row.count}"
        remarks = [item for item in row.remarks if item.instead_of not in shown]
        if not remarks:
            return tree + name
        texts = [item.short if is_short else item.full for item in remarks]
        return f"{tree}{name} ({', '.join(texts)})"

    def _cut(self, text: str, width: int) -> str:
        if cell_len(text) <= width:
            return text
        name, bracket, mark = text.rpartition(" (")
        room = width - cell_len(bracket + mark)
        if mark.endswith(")") and room >= _READABLE:
            return shorten(name, room, self._signs.ellipsis) + bracket + mark
        return shorten(text, width, self._signs.ellipsis)

    def _line(self, texts: Iterable[str]) -> str:
        padded = [
            pad(text, width, right=self._columns[index].is_number)
            for text, index, width in zip(texts, self._shown, self._widths, strict=True)
        ]
        return (" " * _GAP).join(padded).rstrip()

    def _drawn_trees(self) -> Iterator[str]:
        """Yield what stands before each row's name."""
        signs, open_levels = self._signs, dict[int, bool]()
        for row in self._rows:
            open_levels[row.level] = not row.is_last
            above = range(1, row.level)
            bars = "".join(signs.bar if open_levels.get(level) else "   " for level in above)
            yield bars + (signs.corner if row.is_last else signs.tee) if row.level else ""
