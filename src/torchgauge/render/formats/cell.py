"""A page as a piece of HTML for the cell of a notebook: no script, no style sheet, no id.

An untrusted notebook keeps text, tables, ``style`` attributes and ``<details>``, so nothing else is
used. Text has the colour of its surroundings, light or dark; a tone is a coloured dot beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from torchgauge.language import joined, translated
from torchgauge.render.line import chart_lines
from torchgauge.render.page import (
    Block,
    Cell,
    Chart,
    Code,
    Column,
    Fact,
    Facts,
    Notes,
    Page,
    Problem,
    Row,
    Table,
    Tone,
    Weight,
    printable,
)
from torchgauge.render.translation import in_language

MOST_OPEN_ROWS: Final = 30
"""A table of more rows is folded."""
DOTS: Final = {
    Tone.GOOD: "#2a9d4a", Tone.NOTICE: "#3b82f6", Tone.WARNING: "#b7791f", Tone.BAD: "#e5484d",
}  # fmt: skip
"""Seen against white and against black alike."""
HEAVY: Final = 1.5
"""How many times the average of its column a figure is that has a bar behind it."""

_LINE = "rgba(128,128,128,.28)"
_SHARE = "rgba(86,130,214,.26)"
_MONO = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12px"
_BOX = "font-size:13px;line-height:1.5;max-width:100%"
_TITLE = "margin:0 0 8px"
_NAME = "font-size:18px;margin-right:10px"
_CHIP = (
    f"display:inline-block;margin:0 5px 3px 0;padding:0 9px;border:1px solid {_LINE};"
    "border-radius:10px;font-size:12px"
)
_SCROLL = "overflow-x:auto;margin:4px 0 8px"
_TABLE = "width:auto;margin:0;border:none;border-collapse:collapse;font-size:13px"
_ROW = f"background:transparent;border:none;border-bottom:1px solid {_LINE}"
_PLAIN_ROW = "background:transparent;border:none"
_LABEL = (
    "text-align:left;vertical-align:top;padding:2px 18px 2px 0;font-weight:400;opacity:.72;"
    "white-space:nowrap"
)
_VALUE = "text-align:left;vertical-align:top;padding:2px 0;white-space:normal"
_HEADING = "margin:10px 0 4px;font-weight:600"
_SUMMARY = "cursor:pointer;font-weight:600"
_CARD = f"margin:8px 0;padding:8px 14px;border:1px solid {_LINE};border-left:4px solid"
_CODE = f"{_MONO};margin:6px 0;padding:6px 10px;background:rgba(128,128,128,.12);overflow-x:auto"
_LIST = "margin:2px 0 8px;padding-left:20px"
_CHART = f"{_MONO};margin:2px 0 8px;line-height:1.2;overflow-x:auto"
_CHART_WIDTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFormat:
    """Write a page as one ``<div>``: answers on top, long tables and details folded."""

    details: bool = False
    """Open what is folded."""

    def render(self, page: Page) -> str:
        """Return the piece of HTML."""
        return "".join(_Writer(self.details).page(printable(in_language(page))))


class _Writer:
    def __init__(self, details: bool) -> None:
        self._open = " open" if details else ""

    def page(self, page: Page) -> Iterator[str]:
        yield f'<div style="{_BOX}">'
        yield from _title(page)
        blocks = [block for block in page.blocks if _holds_something(block)]
        shown = [block for block in blocks if not block.detail]
        more = [block for block in blocks if block.detail]
        while shown:
            block = shown.pop(0)
            if isinstance(block, Table) and len(block.rows) > MOST_OPEN_ROWS:
                legend = [shown.pop(0)] if shown and _is_legend(shown[0]) else []
                names = joined(column.title for column in block.columns)
                head = translated(f"{block.heading or 'Table'}, {len(block.rows):,} rows")
                yield from self._folded(head, names, [block, *legend])
            else:
                yield from _block(block)
        if more:
            names = joined(_heading(block).lower() for block in more if _heading(block))
            yield from self._folded(translated("More"), names, more)
        yield "</div>"

    def _folded(self, head: str, names: str, blocks: list[Block]) -> Iterator[str]:
        yield f'<details style="margin:6px 0"{self._open}>'
        inside = f': <span style="font-weight:400;opacity:.72">{escape(names)}</span>'
        yield f'<summary style="{_SUMMARY}">{escape(head)}{inside if names else ""}</summary>'
        for block in blocks:
            yield from _block(block)
        yield "</details>"


def _holds_something(block: Block) -> bool:
    if isinstance(block, Facts):
        return bool(block.facts)
    if isinstance(block, Notes):
        return bool(block.lines)
    return isinstance(block, Table | Problem | Chart | Code)


def _is_legend(block: Block) -> bool:
    return isinstance(block, Notes) and not block.heading


def _heading(block: Block) -> str:
    return "" if isinstance(block, Problem) else getattr(block, "heading", "")


def _title(page: Page) -> Iterator[str]:
    name, *settings = page.title
    yield f'<div style="{_TITLE}"><strong style="{_NAME}">{escape(name)}</strong>'
    for text in settings:
        dot = _dot(Tone.BAD) if text == page.failed else ""
        yield f'<span style="{_CHIP}">{dot}{escape(text)}</span>'
    yield "</div>"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Problem):
        yield from _problem(block)
        return
    if heading := _heading(block):
        dot = _dot(block.tone) if isinstance(block, Notes) else ""
        yield f'<div style="{_HEADING}">{dot}{escape(heading)}</div>'
    if isinstance(block, Facts):
        yield f'<div style="{_SCROLL}"><table style="{_TABLE}"><tbody>'
        yield from map(_fact, block.facts)
        yield "</tbody></table></div>"
    elif isinstance(block, Code):
        yield f'<pre style="{_CODE}">{escape(chr(10).join(block.lines))}</pre>'
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Chart):
        lines = "\n".join(chart_lines(block, _CHART_WIDTH))
        yield f'<pre style="{_CHART}">{escape(lines)}</pre>'
    elif isinstance(block, Notes) and block.heading:
        lines = "".join(f"<li>{escape(text)}</li>" for text in block.lines)
        yield f'<ul style="{_LIST}">{lines}</ul>'
    elif isinstance(block, Notes):
        lines = "<br>".join(map(escape, block.lines))
        yield f'<div style="margin:2px 0 8px;opacity:.72">{lines}</div>'


def _dot(tone: Tone) -> str:
    color = DOTS.get(tone)
    return f'<span style="color:{color}">●</span> ' if color else ""


def _fact(fact: Fact) -> str:
    text = escape(" · ".join(fact.segments))
    if fact.tone is not Tone.PLAIN:
        text = f"{_dot(fact.tone)}<strong>{text}</strong>"
    if fact.share is not None:
        text += _bar(fact.share, DOTS.get(fact.tone, _LINE))
    return (
        f'<tr style="{_PLAIN_ROW}"><th scope="row" style="{_LABEL}">{escape(fact.label)}</th>'
        f'<td style="{_VALUE}">{text}</td></tr>'
    )


def _bar(share: float, color: str) -> str:
    """Return a bar of what is used of a whole, full where it is too much."""
    percent = min(100.0, max(0.5, 100 * share))
    return (
        f'<div style="width:260px;max-width:100%;height:7px;margin:3px 0 5px;background:{_LINE}">'
        f'<div style="width:{percent:.1f}%;height:7px;background:{color}"></div></div>'
    )


def _problem(block: Problem) -> Iterator[str]:
    color = DOTS.get(block.tone, _LINE)
    yield f'<div style="{_CARD} {color}">'
    heading = escape(f"{block.kind} {block.heading}".strip())
    yield f'<div style="font-weight:600">{_dot(block.tone)}{heading}</div>'
    if block.text:
        yield f'<div style="margin:4px 0">{escape(block.text)}</div>'
    if block.entries:
        yield f'<table style="{_TABLE}"><tbody>'
        for label, text in block.entries:
            yield _fact(Fact(label=label, segments=(text,)))
        yield "</tbody></table>"
    for word, commands in (("", block.commands), (translated("or"), block.alternative)):
        if commands:
            yield f'{word}<pre style="{_CODE}">{escape(chr(10).join(commands))}</pre>'
    yield "</div>"


# ---------------------------------------------------------------------------- tables


@dataclass(frozen=True, slots=True)
class _Scale:
    """What is heavy in a column."""

    largest: float
    average: float

    @classmethod
    def of(cls, table: Table, index: int) -> _Scale:
        shares = [row.cells[index].share for row in table.rows if row.cells[index].share]
        return cls(max(shares, default=0.0), sum(shares) / len(shares) if shares else 0.0)

    def bar(self, share: float) -> str:
        """Return the style of a bar behind a figure that is heavy beside the others."""
        if not share or share < HEAVY * self.average:
            return ""
        percent = f"{100 * share / self.largest:.0f}%"
        return f";background:linear-gradient(to left,{_SHARE} {percent},transparent {percent})"


def _table(block: Table) -> Iterator[str]:
    yield f'<div style="{_SCROLL}"><table style="{_TABLE}"><thead><tr style="{_ROW}">'
    for index, column in enumerate(block.columns):
        style = f"{_sides(column, index)};white-space:nowrap;font-weight:600;opacity:.72"
        yield f'<th scope="col" style="{style}">{escape(column.title)}</th>'
    yield "</tr></thead><tbody>"
    scales = tuple(_Scale.of(block, index) for index in range(len(block.columns)))
    yield from (_row(row, block, scales) for row in block.rows)
    yield "</tbody></table></div>"


def _row(row: Row, table: Table, scales: Sequence[_Scale]) -> str:
    first = table.columns[0]
    name = escape(row.cells[0].full) + (f" × {row.count}" if row.count > 1 else "")
    remarks = ", ".join(item.full for item in row.remarks)
    name += f' <span style="opacity:.72">({escape(remarks)})</span>' if remarks else ""
    weight = "600" if row.weight in (Weight.STRONG, Weight.ALERT) else "400"
    indent = f";padding-left:{16 * row.level}px" if row.level else ""
    style = f"{_sides(first, 0)};{_breaks(first)};font-weight:{weight}{indent}"
    title = f' title="{escape(row.path)}"' if row.path else ""
    dot = _dot(Tone.BAD) if row.weight is Weight.ALERT else ""
    cells = "".join(
        _cell(row.cells[index], table.columns[index], index, scales[index])
        for index in range(1, len(row.cells))
    )
    quiet = ";opacity:.65" if row.weight is Weight.QUIET else ""
    head = f'<th scope="row" style="{style}"{title}>{dot}{name}</th>'
    return f'<tr style="{_ROW}{quiet}">{head}{cells}</tr>'


def _cell(cell: Cell, column: Column, index: int, scale: _Scale) -> str:
    font = f";{_MONO}" if column.is_code else ""
    style = f"{_sides(column, index)};{_breaks(column)}{font}{scale.bar(cell.share)}"
    return f'<td style="{style}">{escape(cell.full)}</td>'


def _breaks(column: Column) -> str:
    wraps = column.wraps and not column.is_code
    return f"white-space:{'normal;min-width:220px' if wraps else 'nowrap'}"


def _sides(column: Column, index: int) -> str:
    side = "right" if column.is_number else "left"
    return f"text-align:{side};padding:2px 4px 2px {16 if index else 0}px;vertical-align:top"
