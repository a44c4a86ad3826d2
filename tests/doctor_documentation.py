"""docs/doctor.md and the rules, each read as pairs of a finding's name and its severity."""

from __future__ import annotations

import ast
import re
from functools import cache
from itertools import product
from pathlib import Path

import torchgauge
from torchgauge.environment import rules
from torchgauge.environment.findings import Severity
from torchgauge.environment.rules import companions

PAGE = Path(__file__).resolve().parent.parent / "docs" / "doctor.md"
RULES = Path(torchgauge.__file__).parent / "environment" / "rules"
COLUMNS = (Severity.ERROR, Severity.WARNING, Severity.NOTICE)

Pair = tuple[str, Severity]


@cache
def documented() -> frozenset[Pair]:
    """Return the pairs of the table in docs/doctor.md."""
    table = PAGE.read_text(encoding="utf-8").split("| where | errors | warnings | notices |\n")[1]
    rows = [line for line in table.split("\n\n")[0].splitlines() if line.startswith("| ")]
    return frozenset(
        (name, severity)
        for row in rows
        for severity, cell in zip(COLUMNS, row.strip("|").split("|")[1:], strict=True)
        for name in re.findall(r"`([a-z0-9-]+)`", cell)
    )


@cache
def written() -> frozenset[Pair]:
    """Return the pairs that the rules can find, read from their source."""
    pairs = {pair for path in sorted(RULES.glob("*.py")) for pair in _pairs_of(path)}
    # These become errors by --require-gpu, after the rules.
    pairs |= {(name, Severity.ERROR) for name in rules._WITHOUT_GPU}
    return frozenset(pairs)


def _pairs_of(path: Path) -> set[Pair]:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    rows = {
        keyword.value.value
        for call in calls
        for keyword in call.keywords
        if _called(call) == "_Message"
        and keyword.arg == "name"
        and isinstance(keyword.value, ast.Constant)
    }
    found: set[Pair] = set()
    for call in calls:
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if _called(call) in ("Finding", "replace") and "name" in given:
            found |= _pairs(given["name"], given["severity"], rows)
        elif _called(call) in set(Severity) and "name" in given:  # error(…), warning(…), notice(…)
            found |= {(name, Severity(_called(call))) for name in _names(given["name"], rows)}
    return found


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _pairs(name: ast.expr, severity: ast.expr, rows: set[str]) -> set[Pair]:
    if isinstance(name, ast.IfExp) and isinstance(severity, ast.IfExp):
        # Both follow from the same question: the branches belong together.
        assert ast.dump(name.test) == ast.dump(severity.test)
        return _pairs(name.body, severity.body, rows) | _pairs(name.orelse, severity.orelse, rows)
    return set(product(_names(name, rows), _severities(severity)))


def _names(node: ast.expr, rows: set[str]) -> set[str]:
    if isinstance(node, ast.Constant):
        return {node.value}
    if isinstance(node, ast.JoinedStr):
        text = ast.unparse(node)
        assert "{package.name}" in text, text
        return {
            ast.literal_eval(text.lstrip("f").replace("{package.name}", package))
            for package in companions._IMPORTED_BY
        }
    assert ast.unparse(node) == "row.name", ast.unparse(node)
    return rows


def _severities(node: ast.expr) -> set[Severity]:
    return {
        Severity[part.attr]
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "Severity"
    }
