"""A page in the language that is spoken. Names stay: of models, layers, types, files, commands."""

from __future__ import annotations

from dataclasses import replace

from torchgauge import language
from torchgauge.language import translated
from torchgauge.render.page import (
    Block,
    Cell,
    Code,
    Column,
    Facts,
    Notes,
    Page,
    Problem,
    Remark,
    Row,
    Table,
)


def in_language(page: Page) -> Page:
    """Return the page with its texts translated; the figures for programs stay as they are."""
    if language.current() == language.ENGLISH:
        return page
    first, *settings = page.title
    name = first if page.is_about_a_model else translated(first)
    return replace(
        page,
        title=(name, *map(translated, settings)),
        failed=translated(page.failed),
        blocks=tuple(_block(block, page.is_about_a_gpu) for block in page.blocks),
    )


def _block(block: Block, is_of_a_gpu: bool) -> Block:
    if isinstance(block, Facts):
        facts = (
            replace(fact, label=_label(fact.label, is_of_a_gpu), segments=_all(fact.segments))
            for fact in block.facts
        )
        return replace(block, heading=_label(block.heading, is_of_a_gpu), facts=tuple(facts))
    if isinstance(block, Notes):
        lines = block.lines if block.is_quoted else _all(block.lines)
        return replace(block, heading=translated(block.heading), lines=lines)
    if isinstance(block, Table):
        return _table(block, is_of_a_gpu)
    if isinstance(block, Code):
        return replace(block, heading=translated(block.heading))
    return _problem(block) if isinstance(block, Problem) else block


def _label(text: str, is_of_a_gpu: bool) -> str:
    return translated("GPU memory" if is_of_a_gpu and text == "Memory" else text)


def _all(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(translated, texts))


def _table(table: Table, is_of_a_gpu: bool) -> Table:
    columns = tuple(
        replace(column, title=_label(column.title, is_of_a_gpu)) for column in table.columns
    )
    rows = tuple(_row(row, table.columns) for row in table.rows)
    return replace(table, heading=translated(table.heading), columns=columns, rows=rows)


def _row(row: Row, columns: tuple[Column, ...]) -> Row:
    cells = (
        cell
        if column.is_code and not _is_ours(cell)
        else replace(cell, variants=_all(cell.variants))
        for cell, column in zip(row.cells, columns, strict=True)
    )
    remarks = (
        Remark(translated(item.full), translated(item.short), translated(item.instead_of))
        for item in row.remarks
    )
    return replace(row, cells=tuple(cells), remarks=tuple(remarks))


def _is_ours(cell: Cell) -> bool:
    """Return whether a cell among names holds a word of ours: ``(outside of layers)``."""
    return all(text.startswith("(") and text.endswith(")") for text in cell.variants)


def _problem(problem: Problem) -> Problem:
    entries = (
        (translated(label), text if _is_quoted(label, text) else translated(text))
        for label, text in problem.entries
    )
    return replace(
        problem,
        heading=translated(problem.heading),
        kind=translated(problem.kind),
        text=translated(problem.text),
        entries=tuple(entries),
    )


def _is_quoted(label: str, text: str) -> bool:
    """Return whether an entry is what another program said, word for word."""
    return label == "error" and not text.startswith("memory: ")
