"""A report as a LaTeX table that needs no package, for papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchgauge.facts.report import Report
from torchgauge.render.view import Row, View, build_view, check_options

_SIGNS = {
    '"': "''", "\\": r"\textbackslash{}",
    "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "[": "{[}", "]": "{]}",  # after \\ a bracket would be taken for an option
    "×": r"$\times$", "–": "--", "…": r"\ldots{}", "·": r"$\cdot$", "µ": r"$\mu$",
}  # fmt: skip
_TRANSLATION = str.maketrans(_SIGNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatexRenderer:
    """Write a report as a ``table`` with a caption, followed by its notes as a list.

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
        """Return the report as LaTeX; the last line has no newline."""
        view = build_view(report, depth=self.depth, columns=self.columns, unfold=self.unfold)
        return "\n".join([*_table(view), *_notes(view)])


def escape(text: str) -> str:
    r"""Return text that LaTeX sets as it is.

    >>> escape("50 % of a_b & c")
    '50 \\% of a\\_b \\& c'
    """
    return text.translate(_TRANSLATION)


def _table(view: View) -> Iterator[str]:
    yield r"\begin{table}"
    yield r"  \centering"
    yield rf"  \caption{{{escape(' · '.join(view.title))}}}"
    yield r"  \begin{tabular}{l" + "".join("r" if c.is_number else "l" for c in view.columns) + "}"
    yield r"    \hline"
    yield (
        "    " + " & ".join(["Layer", *(escape(column.title) for column in view.columns)]) + r" \\"
    )
    yield r"    \hline"
    for row in view.rows:
        cells = (escape(row.cells[column.name].full) for column in view.columns)
        yield "    " + " & ".join([_name(row), *cells]) + r" \\"
    yield r"    \hline"
    yield r"  \end{tabular}"
    yield r"\end{table}"


def _name(row: Row) -> str:
    name = escape(f"{row.name} × {row.fold}" if row.fold > 1 else row.name)
    marks = ", ".join(mark.full for mark in row.marks)
    name = rf"\textbf{{{name}}}" if row.expanded else name
    return r"\quad " * row.level + (f"{name} ({escape(marks)})" if marks else name)


def _notes(view: View) -> Iterator[str]:
    yield ""
    yield r"\begin{itemize}"
    for text in _texts(view):
        yield rf"  \item {escape(text)}"
    yield r"\end{itemize}"


def _texts(view: View) -> Iterator[str]:
    for answer in view.answers:
        yield f"{answer.label}: {' · '.join(answer.segments)}"
    if view.failure is not None:
        yield f"Failed at {view.failure.where}"
        yield from (f"input: {text}" for text in view.failure.inputs)
        yield from (f"error: {text}" for text in view.failure.error)
        if view.failure.hint:
            yield f"try: {view.failure.hint}"
    for line in view.footer:
        yield f"{line.label}: {line.value}" + (f" ({line.remark})" if line.remark else "")
    for note in view.notes:
        yield from (f"{note.heading}: {text}" for text in note.lines)
