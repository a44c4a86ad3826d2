"""Estimators depend on their arguments and the package's tables: on no other file or variable."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import torchgauge.estimate

OUTSIDE = {"os", "pathlib", "io", "sys", "tempfile", "subprocess", "socket", "csv", "platform"}
FILES = sorted(Path(torchgauge.estimate.__file__).parent.rglob("*.py"))


def reads(source: str) -> Iterator[str]:
    """Yield what in a module's text looks outside."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in OUTSIDE)
        elif isinstance(node, ast.ImportFrom) and node.module in OUTSIDE:
            yield node.module
        elif isinstance(node, ast.Name) and node.id in ("open", "input"):
            yield node.id


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_module_looks_at_nothing_outside(path: Path) -> None:
    assert list(reads(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("text", ["import os", "from pathlib import Path", "x = open('y')"])
def test_the_check_sees_what_looks_outside(text: str) -> None:
    assert list(reads(text))
