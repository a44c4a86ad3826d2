"""A page as GitHub-flavoured Markdown, for issues, pull requests and model cards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torchgauge.language import translated
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
    Row,
    Table,
    Weight,
    printable,
)
from torchgauge.render.translation import in_language

_CHART_WIDTH = 80
"""Characters of a line that is drawn."""
_QUOTED = ("input", "error")
"""Entries of a problem that are quoted as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkdownFormat:
    """Write a page as Markdown: whole paths instead of a tree, nothing shortened."""

    def render(self, page: Page) -> str:
        """Return the page as Markdown; the last line has no newline."""
        cleaned = printable(in_language(page))
        title = "".join(f" · {escape(text)}" for text in cleaned.title[1:])
        parts = [f"**{escape(cleaned.title[0])}**{title}"]
        parts += ["\n".join(lines) for block in cleaned.blocks if (lines := list(_block(block)))]
        return "\n\n".join(parts)


def escape(text: str) -> str:
    r"""Return text that Markdown shows as it is.

    >>> escape("a_b | <c> *d*")
    'a\\_b \\| \\<c\\> \\*d\\*'
    """
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", text)


def code(text: str) -> str:
    r"""Return text as a code span that may stand in a table.

    >>> code("a|b"), code("a`b")
    ('`a\\|b`', '``a`b``')
    """
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", r"\|")


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Problem):
        yield from _problem(block)
        return
    if isinstance(block, Facts | Notes | Table | Chart | Code) and block.heading:
        yield f"**{escape(block.heading)}**"
        yield ""
    if isinstance(block, Facts):
        yield from map(_fact, block.facts)
    elif isinstance(block, Chart):
        yield from ("```text", *chart_lines(block, _CHART_WIDTH), "```")
    elif isinstance(block, Code):
        yield "\n".join(["```python", *block.lines, "```"])
    elif isinstance(block, Notes):
        yield from (f"- {escape(text)}" for text in block.lines)
    elif isinstance(block, Table):
        titles = (escape(column.title) for column in block.columns)
        yield "| " + " | ".join(titles) + " |"
        yield "|" + "|".join("--:" if item.is_number else "---" for item in block.columns) + "|"
        for row in block.rows:
            yield "| " + " | ".join(_cells(row, block)) + " |"


def _fact(fact: Fact) -> str:
    return f"- **{escape(fact.label)}**: {escape(' · '.join(fact.segments))}"


def _cells(row: Row, table: Table) -> Iterator[str]:
    first, *others = zip(row.cells, table.columns, strict=True)
    name = row.path or first[0].full
    name = code(name) if first[1].is_code else escape(name)
    name += f" × {row.count}" if row.count > 1 else ""
    remarks = ", ".join(item.full for item in row.remarks)
    name = f"{name} ({escape(remarks)})" if remarks else name
    yield f"**{name}**" if row.weight is Weight.STRONG else name
    for cell, column in others:
        known = cell.full not in ("", "–")
        yield code(cell.full) if known and column.is_code else escape(cell.full)


def _problem(block: Problem) -> Iterator[str]:
    yield f"**{escape(f'{block.kind} {block.heading}'.strip())}**"
    if block.text:
        yield f"\n{escape(block.text)}"
    quoted = [translated(label) for label in _QUOTED]
    for number, (label, text) in enumerate(block.entries):
        start = "" if number else "\n"
        yield f"{start}- {label}: {code(text) if label in quoted else escape(text)}"
    for heading, commands in (("", block.commands), (f"\n{translated('or')}\n", block.alternative)):
        if commands:
            yield heading
            fence = "```python" if block.are_python else "```sh"
            yield "\n".join([fence, *commands, "```"])
