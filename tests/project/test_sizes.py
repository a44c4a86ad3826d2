"""No file, function or folder of the package is longer than a reader takes in at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "torchgauge"
LINES, FUNCTION_LINES, FILES = 400, 60, 14
LISTS = ("cli/commands", "advise/rules")
"""Folders with one file for each entry of a table: who looks for one knows its name."""


def too_long(source: Path) -> Iterator[str]:
    for path in sorted(source.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(source)
        if text.count("\n") > LINES:
            yield f"{name} has more than {LINES} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= FUNCTION_LINES:
                    yield f"{name}: {node.name} has more than {FUNCTION_LINES} lines"
    for folder in sorted({path.parent for path in source.rglob("*.py")}):
        place = folder.relative_to(source)
        if len(list(folder.glob("*.py"))) > FILES and place.as_posix() not in LISTS:
            yield f"{place} has more than {FILES} files"


def test_nothing_is_too_long() -> None:
    assert list(too_long(SOURCE)) == []


def test_the_check_can_fail(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text("def long():\n" + "    pass\n" * LINES)
    for number in range(FILES):
        (tmp_path / f"part_{number}.py").write_text("")
    assert [text.split(" has")[0] for text in too_long(tmp_path)] == [
        "long.py",
        "long.py: long",
        ".",
    ]
