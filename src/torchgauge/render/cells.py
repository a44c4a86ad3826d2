"""An answer as a notebook takes it: the calm text and the static HTML of one page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from torchgauge.facts.report import Report
from torchgauge.render.formats.cell import CellFormat
from torchgauge.render.formats.text import TextFormat
from torchgauge.render.page import Block, Notes, Page, Table
from torchgauge.render.pages import instead_of, page_of
from torchgauge.render.shell import is_terminal_shell

WIDTH: Final = 100
"""Characters per line of the text: a notebook does not say how wide it is."""
MOST_ROWS: Final = 200
"""Of a table in a cell: a notebook is saved with its cells, and a browser is slow with more."""


def bundle_of(answer: object) -> dict[str, str]:
    """Return an answer as text and as HTML, by MIME type.

    IPython in a terminal gets nothing: it shows the one line of ``repr``, as plain Python does.
    """
    return {} if is_terminal_shell() else bundle_of_page(cell_page(answer))


def bundle_of_page(page: Page, *, details: bool = False) -> dict[str, str]:
    """Return a page as text and as HTML, by MIME type; ``details`` leaves nothing out or folded."""
    return {
        "text/plain": TextFormat(width=WIDTH, details=details).render(page),
        "text/html": CellFormat(details=details).render(page),
    }


def cell_page(answer: object, **tree: Any) -> Page:
    """Return the page of an answer, its table no longer than ``MOST_ROWS`` rows.

    Modules are then shown to the depth that fits, and a line says so. A caller who says ``depth``
    or ``expand`` gets all of it.

    Raises:
        UsageError: there is no page for it, or no table of modules on it.
    """
    answer = instead_of(answer)
    page = page_of(answer, **tree)
    count = _count(page)
    if count <= MOST_ROWS or tree.get("depth") is not None or tree.get("expand"):
        return page
    if not isinstance(answer, Report):
        return _cut(page, f"the first {MOST_ROWS} of {count:,} rows")
    whole = max(module.depth for module in answer.modules.values())
    depth = whole
    while count > MOST_ROWS and depth > 1:
        depth -= 1
        page = page_of(answer, **{**tree, "depth": depth})
        count = _count(page)
    shown = f"modules to depth {depth} of {whole}" + (
        f", the first {MOST_ROWS} of {count:,} rows" if count > MOST_ROWS else ""
    )
    return _cut(page, f"{shown}: torchgauge.show(report, depth={whole}) shows them all")


def _count(page: Page) -> int:
    return max((len(table.rows) for table in _tables(page)), default=0)


def _tables(page: Page) -> list[Table]:
    return [block for block in page.blocks if isinstance(block, Table) and not block.detail]


def _cut(page: Page, said: str) -> Page:
    """Return a page with long tables cut, and what is said of it under the longest."""
    longest = max(_tables(page), key=lambda table: len(table.rows))
    blocks: list[Block] = []
    for block in page.blocks:
        if isinstance(block, Table) and not block.detail:
            blocks.append(replace(block, rows=block.rows[:MOST_ROWS]))
        else:
            blocks.append(block)
        if block is longest:
            blocks.append(Notes(lines=(said,), calm=1))
    return replace(page, blocks=tuple(blocks))
