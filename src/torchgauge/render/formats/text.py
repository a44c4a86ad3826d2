"""A page as plain text for a terminal, a log or a README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from torchgauge.errors import UsageError
from torchgauge.language import ENGLISH, joined, spoken, translated
from torchgauge.render.formats.text_table import ASCII, UNICODE, TextTable
from torchgauge.render.layout import one_line, pad, to_ascii, wrap
from torchgauge.render.line import chart_lines
from torchgauge.render.page import (
    Block,
    Chart,
    Code,
    Fact,
    Facts,
    Notes,
    Page,
    Problem,
    Table,
    Tone,
    Weight,
    printable,
)
from torchgauge.render.translation import in_language

DEFAULT_WIDTH = 80
SMALLEST_WIDTH = 40

_BOLD, _DIM = "1", "2"
_TONES = {Tone.GOOD: "32", Tone.NOTICE: "36", Tone.WARNING: "33", Tone.BAD: "31"}
_WEIGHTS = {Weight.STRONG: _BOLD, Weight.QUIET: _DIM}
_ALERT = "1;31"
_TREE = " │├└─|`-"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFormat:
    """Write a page for people.

    No line is wider than ``width`` and none ends in spaces; commands alone are never wrapped.

    Raises:
        UsageError: for a width below 40.
    """

    width: int | None = None
    """Characters per line, as a terminal counts them. Without it a table takes what it needs
    and sentences are wrapped at 80."""
    ascii: bool = False
    """Use ASCII characters alone, and so English."""
    color: bool = False
    """Style the same text with ANSI codes."""
    details: bool = True
    """Show everything; else the calm view, which ends in what else there is."""

    def __post_init__(self) -> None:
        if self.width is not None and self.width < SMALLEST_WIDTH:
            raise UsageError(
                f"width={self.width} is too narrow for a table",
                hint=f"use {SMALLEST_WIDTH} or more",
            )

    def render(self, page: Page) -> str:
        """Return the page as text; the last line has no newline."""
        if self.ascii:
            with spoken(ENGLISH):
                return self._written(printable(page, lambda text: to_ascii(one_line(text))))
        return self._written(printable(in_language(page)))

    def _written(self, page: Page) -> str:
        return "\n".join(line.rstrip() for line in _Writer(self).page(page))


class _Writer:
    def __init__(self, options: TextFormat) -> None:
        self._width = options.width or DEFAULT_WIDTH
        self._table_width = options.width
        self._color = options.color
        self._details = options.details
        self._signs = ASCII if options.ascii else UNICODE

    def page(self, page: Page) -> Iterator[str]:
        for line in self._wrap(page.title, first="", indent="  "):
            yield self._style(line, _BOLD)
        for block in page.blocks:
            if block.detail and not self._details:
                continue
            lines = list(self._block(block))
            if lines:
                yield ""
                yield from lines
        more = () if self._details else tuple(_more(page.blocks))
        if more:
            yield ""
            texts = (translated(f"more with --details: {more[0]}"), *more[1:])
            for line in self._wrap(texts, first=" ", indent="   "):
                yield self._style(line, _DIM)

    def _block(self, block: Block) -> Iterator[str]:
        if isinstance(block, Facts):
            yield from self._heading(block.heading)
            width = max((cell_len(fact.label) for fact in block.facts), default=0) + 2
            for fact in block.facts:
                yield from self._fact(fact, width, margin="   " if block.heading else " ")
        elif isinstance(block, Table):
            yield from self._heading(block.heading)
            yield from self._table(block)
        elif isinstance(block, Notes):
            yield from self._notes(block)
        elif isinstance(block, Problem):
            yield from self._problem(block)
        elif isinstance(block, Chart):
            yield from self._heading(block.heading)
            is_ascii = self._signs is ASCII
            yield from (f" {line}" for line in chart_lines(block, self._width - 1, ascii=is_ascii))
        elif isinstance(block, Code):
            yield from self._heading(block.heading)
            yield from block.lines

    def _heading(self, text: str, style: str = _BOLD) -> Iterator[str]:
        for line in self._wrap((text,), first=" ", indent="   ") if text else ():
            yield self._style(line, style)

    def _fact(self, fact: Fact, width: int, margin: str) -> Iterator[str]:
        label = margin + pad(fact.label, width)
        indent = " " * cell_len(label)
        first, *rest = self._wrap(fact.segments, first=indent, indent=indent)
        optional = 0 if self._details else min(fact.optional, len(fact.segments) - 1)
        for left_out in range(1, optional + 1):
            if rest:
                segments = fact.segments[:-left_out]
                first, *rest = self._wrap(segments, first=indent, indent=indent)
        text = first.removeprefix(indent)
        tone = _TONES.get(fact.tone, "")
        yield self._style(label, _BOLD) + self._style(text, tone)
        yield from (self._style(line, tone) for line in rest)

    def _table(self, block: Table) -> Iterator[str]:
        room = None if self._table_width is None else self._table_width - 1
        table = TextTable(block, room, self._signs)
        rule = self._style(" " + table.rule(), _DIM)
        yield self._style(" " + table.head(), _BOLD)
        yield rule
        for row, lines in table.rows():
            yield from (self._row(f" {line}".rstrip(), row.weight) for line in lines)
        yield rule
        if table.left_out:
            text = f"left out at {self._table_width} columns: {joined(table.left_out)}"
            for line in self._wrap((translated(text),), first=" ", indent="   "):
                yield self._style(line, _DIM)

    def _row(self, line: str, weight: Weight) -> str:
        if weight is Weight.ALERT:
            return self._style(line, _ALERT)
        tree = len(line) - len(line.lstrip(_TREE))
        return self._style(line[:tree], _DIM) + self._style(line[tree:], _WEIGHTS.get(weight, ""))

    def _notes(self, block: Notes) -> Iterator[str]:
        shown = block.lines if self._details else block.lines[: block.calm]
        style = _TONES.get(block.tone, _BOLD)
        yield from self._heading(block.heading, style)
        margin = "   " if block.heading else " "
        for text in shown:
            yield from self._wrap((text,), first=margin, indent=margin + "  ")
        if len(shown) < len(block.lines):
            more = f"and {len(block.lines) - len(shown)} more with --details"
            yield margin + translated(more)

    def _problem(self, block: Problem) -> Iterator[str]:
        tone = _TONES.get(block.tone, "") + ";1"
        first, *rest = self._wrap(
            (f"{block.kind} {block.heading}".strip(),), first=" ", indent="   "
        )
        end = 1 + len(block.kind)
        yield " " + self._style(first[1:end], tone) + first[end:]
        yield from rest
        if block.text:
            yield from self._wrap((block.text,), first="   ", indent="   ")
        before = ""
        for label, text in block.entries:
            first = pad(f"   {'' if label == before else label}", 10)
            before = label
            yield from self._wrap((text,), first=first, indent=" " * 10)
        prompt = "" if block.are_python else "$ "
        yield from (f"   {prompt}{command}" for command in block.commands)
        yield from (f"   {translated('or')} $ {command}" for command in block.alternative)

    def _wrap(self, segments: Sequence[str], *, first: str, indent: str) -> Iterator[str]:
        return wrap(segments, self._width, first=first, indent=indent, dot=self._signs.dot)

    def _style(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._color and style and text else text


def _more(blocks: Sequence[Block]) -> Iterator[str]:
    """Yield what the calm view leaves out, by its heading."""
    for block in blocks:
        if isinstance(block, Facts | Table | Code) and block.detail and block.heading:
            yield block.heading.lower()
        elif isinstance(block, Notes) and block.detail and block.lines:
            yield f"{block.heading.lower()} ({len(block.lines)})"
