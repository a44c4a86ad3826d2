"""Tables as the package ``tabulate`` lays them out, which fvcore and PyTorch print with.

Its layout rules, restated (source: tabulate 0.10, https://github.com/astanin/python-tabulate): a
column is as wide as its longest cell and at least two wider than its header; a column of numbers
alone is right-aligned, and decimal numbers lose trailing zeros; white space in cells is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

_HEADER_MARGIN = 2


def pipe_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the ``pipe`` format: Markdown, with the alignment in the second line."""
    columns = _columns(headers, rows)
    right = [_is_numeric(cells) for cells in columns]
    padded = _padded(headers, columns, right)
    lines = [f"| {' | '.join(line)} |" for line in padded]
    marks = "|".join(
        f"{'-' * (len(cell) + 1)}:" if is_right else f":{'-' * (len(cell) + 1)}"
        for cell, is_right in zip(padded[0], right, strict=True)
    )
    return "\n".join([lines[0], f"|{marks}|", *lines[1:]])


def simple_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]
) -> str:
    """Return the ``simple`` format: dashes below the headers, two spaces between columns."""
    padded = _padded(headers, _columns(headers, rows), right)
    dashes = ["-" * len(cell) for cell in padded[0]]
    return "\n".join("  ".join(line).rstrip() for line in (padded[0], dashes, *padded[1:]))


def _columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    columns = [[row[index] for row in rows] for index in range(len(headers))]
    return [_shortened(cells) if _is_numeric(cells) else cells for cells in columns]


def _padded(
    headers: Sequence[str], columns: Sequence[Sequence[str]], right: Sequence[bool]
) -> list[list[str]]:
    """Return the lines, the headers first, with every cell as wide as its column."""
    lines: list[list[str]] = [[] for _ in range(len(columns[0]) + 1)]
    for header, cells, is_right in zip(headers, columns, right, strict=True):
        width = max(len(header) + _HEADER_MARGIN, *map(len, cells), 0)
        for line, cell in zip(lines, (header, *cells), strict=True):
            line.append(cell.rjust(width) if is_right else cell.ljust(width))
    return lines


def _is_numeric(cells: Sequence[str]) -> bool:
    """Return whether every cell is a number or empty, and one is a number."""
    return any(cells) and all(not cell or _is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _shortened(cells: Sequence[str]) -> list[str]:
    if not any("." in cell for cell in cells):
        return list(cells)
    return [format(float(cell), "g") if cell else cell for cell in cells]
