"""A report as GitHub-flavoured Markdown, for issues, pull requests and model cards."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchgauge.facts.report import Report
from torchgauge.render.notes import FailureView
from torchgauge.render.view import Row, View, build_view, check_options

_NAMES = frozenset({"input", "output", "dtype", "type"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkdownRenderer:
    """Write a report as Markdown: whole paths instead of a tree, nothing shortened.

    Raises:
        UsageError: for an unknown column or a depth below 1.
    """

    depth: int | None = None
    """Levels of modules to show."""
    columns: Sequence[str] | None = None
    """Names of columns, in this order."""
    unfold: bool = False
    """Show every repeated block, every different call and every output."""

    def __post_init__(self) -> None:
        check_options(self.depth, self.columns)

    def render(self, report: Report) -> str:
        """Return the report as Markdown; the last line has no newline."""
        view = build_view(report, depth=self.depth, columns=self.columns, unfold=self.unfold)
        return "\n".join(_lines(view)).rstrip("\n")


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


def _lines(view: View) -> Iterator[str]:
    yield f"**{escape(view.title[0])}**" + "".join(f" · {escape(text)}" for text in view.title[1:])
    yield ""
    for answer in view.answers:
        yield f"- **{answer.label}**: {escape(' · '.join(answer.segments))}"
    yield ""
    yield "| " + " | ".join(["Layer", *(escape(column.title) for column in view.columns)]) + " |"
    yield "|" + "|".join(["---", *("--:" if c.is_number else "---" for c in view.columns)]) + "|"
    for row in view.rows:
        yield "| " + " | ".join(_cells(row, view)) + " |"
    yield ""
    if view.failure is not None:
        yield from _failure(view.failure)
        yield ""
    for line in view.footer:
        remark = f" ({escape(line.remark)})" if line.remark else ""
        yield f"- {line.label}: {line.value}{remark}"
    for note in view.notes:
        yield ""
        yield f"**{note.heading}**"
        yield ""
        for text in note.lines:
            yield f"- {escape(text)}"


def _cells(row: Row, view: View) -> Iterator[str]:
    name = code(row.label) + (f" × {row.fold}" if row.fold > 1 else "")
    marks = ", ".join(mark.full for mark in row.marks)
    name = f"{name} ({escape(marks)})" if marks else name
    yield f"**{name}**" if row.expanded else name
    for column in view.columns:
        text = row.cells[column.name].full
        known = text not in ("", "–")
        yield code(text) if known and column.name in _NAMES else escape(text)


def _failure(failure: FailureView) -> Iterator[str]:
    yield f"**Failed at {escape(failure.where)}**"
    yield ""
    for text in failure.inputs or ("no inputs",):
        yield f"- input: {code(text)}"
    yield from (f"- error: {code(text)}" for text in failure.error)
    if failure.hint:
        yield f"- try: {escape(failure.hint)}"
