"""Lines and tables → ``str``: what an answer shows, the same in every format. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchgauge.render import latex, markdown
from torchgauge.render.layout import pad, wrap

_GAP = 2
_SMALLEST_TEXT = 20
"""Characters that the first column keeps where the width is short."""
_ASCII = str.maketrans({"–": "-", "…": "...", "·": "|", "─": "-", "×": "x", "µ": "u"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    title: str
    is_number: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under titles; the first column takes the room that is left."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that is shown, in order."""

    head: tuple[str, ...]
    """Segments of one line."""
    verdict: tuple[str, ...]
    tables: tuple[Table, ...]
    facts: tuple[tuple[str, str], ...]
    """``(what, the answer)``."""
    notes: tuple[str, ...]


def longest(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the longest text of each column."""
    return [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]


def render_page(page: Page, format: str, *, width: int = 80, ascii: bool = False) -> str:
    """Return a page as ``text``, ``markdown`` or ``latex``; the options are for ``text``."""
    if format == "markdown":
        return _markdown(page)
    if format == "latex":
        return _latex(page)
    text = "\n".join(_text(page, width))
    return text.translate(_ASCII) if ascii else text


def _text(view: Page, width: int) -> Iterator[str]:
    yield from wrap(view.head, width)
    yield ""
    for sentence in view.verdict:
        yield from wrap([sentence], width)
    for table in view.tables[:1]:
        yield from _table(table, width)
    if view.facts:
        yield ""
        label = max(len(what) for what, _ in view.facts) + _GAP
        for what, answer in view.facts:
            yield from wrap([answer], width, first=pad(what, label), indent=" " * label)
    for table in view.tables[1:]:
        yield from _table(table, width)
    if view.notes:
        yield ""
        for note in view.notes:
            yield from wrap([note], width, indent="  ")


def _table(table: Table, width: int) -> Iterator[str]:
    yield ""
    if table.title:
        yield table.title
    titles = [column.title for column in table.columns]
    widths = longest([titles, *table.rows])
    room = width - 1 - sum(widths[1:]) - _GAP * (len(widths) - 1)
    widths[0] = min(widths[0], max(room, _SMALLEST_TEXT))
    line = " " + "─" * (sum(widths) + _GAP * (len(widths) - 1))
    yield _row(titles, table.columns, widths)
    yield line
    for row in table.rows:
        first, *more = wrap([row[0]], widths[0], indent="  ")
        yield _row([first, *row[1:]], table.columns, widths)
        yield from (f" {text}" for text in more)
    yield line


def _row(cells: list[str], columns: tuple[Column, ...], widths: list[int]) -> str:
    padded = [
        pad(cell, wide, right=column.is_number)
        for cell, column, wide in zip(cells, columns, widths, strict=True)
    ]
    return " " + (" " * _GAP).join(padded).rstrip()


def _markdown(view: Page) -> str:
    escape = markdown.escape
    lines = [f"**{escape(' · '.join(view.head))}**", "", escape(" ".join(view.verdict))]
    for table in view.tables:
        lines += ["", *([escape(table.title), ""] if table.title else [])]
        lines.append("| " + " | ".join(escape(column.title) for column in table.columns) + " |")
        marks = (" ---: " if column.is_number else " --- " for column in table.columns)
        lines.append("|" + "|".join(marks) + "|")
        lines += ["| " + " | ".join(map(escape, row)) + " |" for row in table.rows]
    lines += ["", *(f"- {escape(what)}: {escape(answer)}" for what, answer in view.facts)]
    lines += [f"- {escape(note)}" for note in view.notes]
    return "\n".join(lines)


def _latex(view: Page) -> str:
    escape = latex.escape
    lines = [escape(" · ".join(view.head)), "", escape(" ".join(view.verdict))]
    for table in view.tables:
        letters = "".join("r" if column.is_number else "l" for column in table.columns)
        titles = " & ".join(escape(column.title) for column in table.columns)
        lines += ["", *([escape(table.title), ""] if table.title else [])]
        lines += [rf"\begin{{tabular}}{{{letters}}}", r"  \hline", rf"  {titles} \\", r"  \hline"]
        lines += [f"  {' & '.join(map(escape, row))} \\\\" for row in table.rows]
        lines += [r"  \hline", r"\end{tabular}"]
    lines += ["", *(rf"{escape(what)}: {escape(answer)}\\" for what, answer in view.facts)]
    lines += [rf"{escape(note)}\\" for note in view.notes]
    return "\n".join(lines)
