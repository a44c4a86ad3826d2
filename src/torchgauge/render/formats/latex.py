"""A page as LaTeX tables that need no package, for papers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torchgauge.language import translated
from torchgauge.render.line import ends, heights
from torchgauge.render.page import (
    Block,
    Chart,
    Code,
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

_SIGNS = {
    '"': "''", "\\": r"\textbackslash{}",
    "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "[": "{[}", "]": "{]}",  # after \\ a bracket would be taken for an option
    "×": r"$\times$", "–": "--", "…": r"\ldots{}", "·": r"$\cdot$", "µ": r"$\mu$",
    "±": r"$\pm$", "→": r"$\to$", "✓": "+", "✗": r"$\times$",
}  # fmt: skip
_PICTURE = (80, 25)
"""Millimetres of a line that is drawn: as wide as a column."""
_TRANSLATION = str.maketrans(_SIGNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatexFormat:
    """Write each table of a page as a ``table`` with a caption, and the rest as lists."""

    def render(self, page: Page) -> str:
        """Return the page as LaTeX; the last line has no newline."""
        cleaned = printable(in_language(page))
        title = " · ".join(cleaned.title)
        is_caption = any(isinstance(item, Table) and not item.heading for item in cleaned.blocks)
        parts = [] if is_caption else [rf"\textbf{{{escape(title)}}}"]
        parts += ["\n".join(_block(block, title)) for block in cleaned.blocks]
        return "\n\n".join(part for part in parts if part)


def escape(text: str) -> str:
    r"""Return text that LaTeX sets as it is.

    >>> escape("50 % of a_b & c")
    '50 \\% of a\\_b \\& c'
    """
    return text.translate(_TRANSLATION)


def _block(block: Block, title: str) -> Iterator[str]:
    if isinstance(block, Table):
        yield from _table(block, block.heading or title)
        return
    if isinstance(block, Chart):
        yield from _chart(block)
        return
    if isinstance(block, Code):
        yield rf"\paragraph{{{escape(block.heading)}}}"
        yield "\n".join([r"\begin{verbatim}", *block.lines, r"\end{verbatim}"])
        return
    lines = list(_lines(block))
    if not lines:
        return
    if isinstance(block, Facts | Notes) and block.heading:
        yield rf"\paragraph{{{escape(block.heading)}}}"
    yield r"\begin{itemize}"
    yield from (rf"  \item {escape(text)}" for text in lines)
    yield r"\end{itemize}"


def _lines(block: Block) -> Iterator[str]:
    if isinstance(block, Facts):
        yield from (f"{fact.label}: {' · '.join(fact.segments)}" for fact in block.facts)
    elif isinstance(block, Notes):
        yield from block.lines
    elif isinstance(block, Problem):
        yield from problem_lines(block)


def problem_lines(block: Problem) -> Iterator[str]:
    """Yield a problem line by line, for formats that have nothing else for it."""
    yield f"{block.kind} {block.heading}".strip() + (f": {block.text}" if block.text else "")
    yield from (f"{label}: {text}" for label, text in block.entries)
    if block.are_python:
        yield from block.commands
    else:
        yield from (translated(f"run: {command}") for command in block.commands)
    yield from (translated(f"or run: {command}") for command in block.alternative)


def _table(block: Table, caption: str) -> Iterator[str]:
    letters = "".join("r" if column.is_number else "l" for column in block.columns)
    yield r"\begin{table}"
    yield r"  \centering"
    yield rf"  \caption{{{escape(caption)}}}"
    yield rf"  \begin{{tabular}}{{{letters}}}"
    yield r"    \hline"
    yield "    " + " & ".join(escape(column.title) for column in block.columns) + r" \\"
    yield r"    \hline"
    for row in block.rows:
        cells = (escape(cell.full) for cell in row.cells[1:])
        yield "    " + " & ".join([_name(row), *cells]) + r" \\"
    yield r"    \hline"
    yield r"  \end{tabular}"
    yield r"\end{table}"


def _chart(block: Chart) -> Iterator[str]:
    """Draw a line with LaTeX's own ``picture``: a straight ``qbezier`` may have any slope."""
    if all(point.value is None for point in block.points):
        return
    if block.heading:
        yield rf"\paragraph{{{escape(block.heading)}}}"
    low, high = (point.text for point in ends(block))
    wide, tall = _PICTURE
    step = wide / max(1, len(block.points) - 1)
    places = [
        None if height is None else (round(number * step, 2), round(height * tall, 2))
        for number, height in enumerate(heights(block))
    ]
    yield r"\setlength{\unitlength}{1mm}"
    yield rf"\begin{{picture}}({wide + 30},{tall + 8})(-28,-6)"
    for height, text in dict([(0, low), (tall, high)]).items():
        yield rf"  \put(-2,{height}){{\makebox(0,0)[r]{{{escape(text)}}}}}"
    for start, end in pairwise(places):
        if start is not None and end is not None:
            middle = tuple(round((a + b) / 2, 2) for a, b in zip(start, end, strict=True))
            corners = "".join(f"({x},{y})" for x, y in (start, middle, end))
            yield rf"  \qbezier{corners}"
    yield from (rf"  \put({at[0]},{at[1]}){{\circle*{{1}}}}" for at in places if at is not None)
    for at, side, point in ((0, "l", block.points[0]), (wide, "r", block.points[-1])):
        yield rf"  \put({at},-4){{\makebox(0,0)[{side}]{{{escape(point.label)}}}}}"
    yield r"\end{picture}"


def _name(row: Row) -> str:
    name = escape(row.cells[0].full + (f" × {row.count}" if row.count > 1 else ""))
    name = rf"\textbf{{{name}}}" if row.weight is Weight.STRONG else name
    remarks = ", ".join(item.full for item in row.remarks)
    return r"\quad " * row.level + (f"{name} ({escape(remarks)})" if remarks else name)
