"""A page as CSV, for spreadsheets and scripts: raw numbers with the unit in the column's name.

The rows are the page's ``Data``. Where they do not say all, the rest stands in lines that begin
with ``#`` and come first, so that ``pandas.read_csv(…, comment="#")`` and the like pass over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torchgauge.language import ENGLISH, spoken
from torchgauge.render.formats.latex import problem_lines
from torchgauge.render.page import Data, Facts, Notes, Page, Problem, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFormat:
    """Write the figures of a page as CSV."""

    def render(self, page: Page) -> str:
        """Return the page as CSV; the last line has no newline."""
        with spoken(ENGLISH):  # programs read it
            return "\n".join(_lines(printable(page)))


def _lines(page: Page) -> Iterator[str]:
    data = page.data or _from_facts(page)
    comments = () if data.is_complete else _comments(page)
    yield from (f"# {text}" for text in comments)
    yield _line(data.columns)
    yield from (_line(map(_plain, row)) for row in data.rows)


def safe(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula.

    >>> safe("=1+1"), safe("conv1")
    ("'=1+1", 'conv1')
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _line(values: Iterable[object]) -> str:
    return ",".join(_cell(str(value)) for value in values)


def _cell(text: str) -> str:
    """Quote what separates, and ``#``, which would begin a comment."""
    special = any(sign in text for sign in ',"\r\n#')
    return '"{}"'.format(text.replace('"', '""')) if special else text


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    return safe(value) if isinstance(value, str) else "" if value is None else value


def _from_facts(page: Page) -> Data:
    facts = [fact for block in page.blocks if isinstance(block, Facts) for fact in block.facts]
    rows = tuple((fact.label, " · ".join(fact.segments)) for fact in facts)
    return Data(columns=("what", "value"), rows=rows, is_complete=False)


def _comments(page: Page) -> Iterator[str]:
    yield " · ".join(page.title)
    for block in page.blocks:
        if isinstance(block, Facts):
            about = f"{block.heading}: " if block.heading else ""
            for fact in block.facts:
                yield f"{about}{fact.label}: {' · '.join(fact.segments)}"
        elif isinstance(block, Problem):
            yield from problem_lines(block)
        elif isinstance(block, Notes):
            about = f"{block.heading}: " if block.heading else ""
            yield from (f"{about}{text}" for text in block.lines)
