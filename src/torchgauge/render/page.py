"""The blocks of a page: what an answer says, in an order, without a format.

An answer describes itself once, as a ``Page`` (``render/pages/``); a format (``render/formats/``)
knows these blocks and no answer. Blocks marked ``detail`` are left out of the calm view of a
terminal, which then says that there is more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Any

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
    optional: int = 0
    """How many of the last pieces the calm view leaves out where they do not fit into the line:
    they stand among the details too."""
    share: float | None = None
    """How much of a whole it is about, 1 for all of it; drawn as a bar where that is possible."""


def fact(label: str, *segments: str, tone: Tone = Tone.PLAIN, optional: int = 0) -> Fact:
    """Return a line."""
    return Fact(label=label, segments=segments, tone=tone, optional=optional)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Lines with labels."""

    facts: tuple[Fact, ...]
    heading: str = ""
    detail: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    _: KW_ONLY
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
    share: float = 0.0
    """How much of the column's total the cell holds; a format may draw it."""

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
    is_quoted: bool = False
    """Whether the lines are docstrings or another program's words, which stay English."""

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
    are_python: bool = False
    """Whether what is to copy is Python, and no commands of a shell."""
    detail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Lines of Python to paste: never cut, never wrapped, never indented."""

    lines: tuple[str, ...]
    heading: str
    detail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The figures for programs: nothing rounded, the unit in the column's name."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    is_complete: bool = True
    """The rows say all that the page says."""
    detail: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One place of a line."""

    label: str
    """What stands below it: a revision."""
    value: float | None
    """``None`` where it is not known: the line has a gap there."""
    text: str
    """The value as it is read, with its unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Values in an order, as a line."""

    points: tuple[Point, ...]
    heading: str = ""
    detail: bool = False


Block = Facts | Table | Notes | Problem | Code | Data | Chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that is shown of an answer, in order."""

    title: tuple[str, ...]
    """What it is about, then the settings it holds for."""
    blocks: tuple[Block, ...]
    failed: str = ""
    """The part of the title that says what failed."""
    is_about_a_model: bool = True
    """The title begins with a name, which is the same in every language."""
    is_about_a_gpu: bool = False
    """Its memory is that of a GPU; some languages have a word for it."""

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


def notes_of(
    *lists: tuple[str, Iterable[str]], tone: Tone = Tone.PLAIN, calm: int = 0
) -> Iterator[Notes]:
    """Yield the lists that hold something, each under its heading."""
    for heading, lines in lists:
        made = tuple(lines)
        if made:
            yield Notes(heading=heading, lines=made, tone=tone, calm=calm)


def printable(page: Page, change: Callable[[str], str] = one_line) -> Page:
    """Return a page whose every text went through ``change``: no control character is left."""
    cleaned: Page = _changed(page, change)
    return cleaned


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return value if isinstance(value, StrEnum) else change(value)
    if isinstance(value, tuple):
        return tuple([_changed(item, change) for item in value])
    names = getattr(value, "__dataclass_fields__", ())
    changed = {name: _changed(getattr(value, name), change) for name in names}
    return type(value)(**changed) if names else value
