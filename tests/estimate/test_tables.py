"""The tables beside the estimators: each name once, each row whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import torchgauge.estimate
from torchgauge.devices.tables import rows

TABLES = sorted(Path(torchgauge.estimate.__file__).parent.rglob("*.csv"))


def test_there_are_tables_and_each_has_its_module() -> None:
    assert len(TABLES) >= 7
    assert all(path.with_suffix(".py").is_file() for path in TABLES)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_name_is_in_a_table_once_and_its_row_is_whole(path: Path) -> None:
    found = rows(path)
    names = Counter(next(iter(row.values())) for row in found)
    assert [name for name, count in names.items() if count > 1] == []
    assert [row for row in found if None in row or None in row.values()] == []
