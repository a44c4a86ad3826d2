"""The tables that the package ships: CSV files, whose lines with ``#`` are notes."""

from __future__ import annotations

import csv
from pathlib import Path


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table by column.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(line for line in lines if not line.startswith("#")))
