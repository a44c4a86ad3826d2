"""The blocks of a page: what an answer says, in an order, without a format.

An answer describes itself once, as a ``Page`` (``render/pages/``); a format (``render/formats/``)
knows these blocks and no answer. Blocks marked ``detail`` are left out of the calm view of a
terminal, which then says that there is more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from torchgauge.render.layout import one_line


class Tone(StrEnum):
    """What a text means to the reader; a format gives it a colour."""

    PLAIN = "plain"
    GOOD = "good"
    NOTICE = "notice"
    WARNING = "warning"
    BAD = "bad"


class Weight(StrEnum):
    """How much a row stands out."""

    PLAIN = "plain"
    STRONG = "strong"
    """A row that the rows below it are part of."""
    QUIET = "quiet"
    ALERT = "alert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line: what it is about, and what holds."""

    label: str
    segments: tuple[str, ...]
    """Pieces of the line, the most important first."""
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Lines with labels."""

    facts: tuple[Fact, ...]
    heading: str = ""
    detail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    title: str
    is_number: bool = True
    keep: int = 100
    """Where width is short, the column with the lowest figure is left out first."""
    joins_name: bool = False
    """Its text may stand after the first column's, where width is short."""
    wraps: bool = False
    """It holds sentences, which go on in the next line."""
    is_code: bool = False
    """It holds names and shapes, not sentences."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell: the same fact written out and shorter, the longest first."""

    variants: tuple[str, ...]

    @property
    def full(self) -> str:
        """Return the longest text."""
        return self.variants[0]


@dataclass(frozen=True, slots=True)
class Remark:
    """What a row says besides its name, and a shorter form of it."""

    full: str
    short: str
    instead_of: str = ""
    """Title of a column that is empty in this row: the remark can stand there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; in a tree of rows each has a level."""

    cells: tuple[Cell, ...]
    path: str = ""
    """What formats without a tree write for the first cell."""
    count: int = 1
    """How many equal things the row stands for."""
    level: int = 0
    is_last: bool = True
    """No sibling follows."""
    remarks: tuple[Remark, ...] = ()
    weight: Weight = Weight.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under titles."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    heading: str = ""
    detail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """Sentences under a heading."""

    lines: tuple[str, ...]
    heading: str = ""
    tone: Tone = Tone.PLAIN
    calm: int = 0
    """How many of them the calm view shows."""

    @property
    def detail(self) -> bool:
        """Return whether the calm view shows none of them."""
        return self.calm == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is wrong: what it is, what was seen, and what repairs it."""

    heading: str
    kind: str = ""
    """Stands before the heading: ``error``, ``Failed at``."""
    tone: Tone = Tone.BAD
    text: str = ""
    entries: tuple[tuple[str, str], ...] = ()
    """``(label, text)``."""
    commands: tuple[str, ...] = ()
    """To copy: never cut and never wrapped."""
    alternative: tuple[str, ...] = ()
    """Commands of another way out."""
    detail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The figures for programs: nothing rounded, the unit in the column's name."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    is_complete: bool = True
    """The rows say all that the page says."""
    detail: bool = True


Block = Facts | Table | Notes | Problem | Data


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that is shown of an answer, in order."""

    title: tuple[str, ...]
    """What it is about, then the settings it holds for."""
    blocks: tuple[Block, ...]

    @property
    def data(self) -> Data | None:
        """Return the figures for programs."""
        return next((block for block in self.blocks if isinstance(block, Data)), None)


def table_of(
    columns: tuple[Column, ...], rows: Sequence[tuple[str, ...]], heading: str = ""
) -> Table:
    """Return a table of plain texts."""
    made = tuple(Row(cells=tuple(Cell((text,)) for text in row)) for row in rows)
    return Table(columns=columns, rows=made, heading=heading)


def printable(page: Page, change: Callable[[str], str] = one_line) -> Page:
    """Return a page whose every text went through ``change``: no control character is left."""
    blocks = tuple(_block(block, change) for block in page.blocks)
    return replace(page, title=tuple(map(change, page.title)), blocks=blocks)


def _fact(fact: Fact, change: Callable[[str], str]) -> Fact:
    return replace(fact, label=change(fact.label), segments=tuple(map(change, fact.segments)))


def _block(block: Block, change: Callable[[str], str]) -> Block:
    if isinstance(block, Data):
        return block
    if isinstance(block, Facts):
        facts = tuple(_fact(fact, change) for fact in block.facts)
        return replace(block, facts=facts, heading=change(block.heading))
    if isinstance(block, Notes):
        return replace(block, lines=tuple(map(change, block.lines)), heading=change(block.heading))
    if isinstance(block, Table):
        columns = tuple(replace(item, title=change(item.title)) for item in block.columns)
        rows = tuple(_row(row, change) for row in block.rows)
        return replace(block, columns=columns, rows=rows, heading=change(block.heading))
    return replace(
        block,
        heading=change(block.heading),
        text=change(block.text),
        entries=tuple((change(label), change(text)) for label, text in block.entries),
        commands=tuple(map(change, block.commands)),
        alternative=tuple(map(change, block.alternative)),
    )


def _row(row: Row, change: Callable[[str], str]) -> Row:
    remarks = tuple(
        Remark(change(item.full), change(item.short), change(item.instead_of))
        for item in row.remarks
    )
    cells = tuple(Cell(tuple(map(change, cell.variants))) for cell in row.cells)
    return replace(row, cells=cells, remarks=remarks, path=change(row.path))
