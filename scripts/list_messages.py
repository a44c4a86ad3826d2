"""Write docs/messages.md: every text that a user can meet, read from the source (`make messages`).

A text is a string of three words or more that is neither a docstring nor data. The page groups
them by package and file: errors with their hints, then warnings, help, findings and the rest.
``--check`` writes nothing and exits with 1 when the page is stale.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "torchgauge"
PAGE = ROOT / "docs" / "messages.md"

ERRORS, WARNINGS, HELP, FINDINGS, OTHER = KINDS = (
    "Errors", "Warnings", "Help", "Findings", "Assumptions, notes and other texts",
)  # fmt: skip
_HELP_KEYWORDS = ("help", "description", "epilog")
NO_TEXT = (
    "compile", "fullmatch", "search", "match", "findall", "sub", "split", "getLogger",
)  # fmt: skip
"""Functions whose arguments are patterns or names."""
DATA = (
    "autocast_lists.py",
    "work.py",
    "oom/frames.py",
    "oom/wordings.py",
)
"""Files of names, sources and texts of other programs, not of messages."""
_HEAD = """\
# Every message

Every text that a user can meet, by package and file.
`make messages` writes it from the source; a test compares. `{…}` stands for a value,
`a ⟋ b` for one of two texts, and *try* begins a hint.
"""


def pages_text() -> str:
    """Return the page as it should be."""
    parts = [_HEAD]
    package = ""
    for path in sorted(SOURCE.rglob("*.py"), key=lambda path: (_package(path), str(path))):
        texts = {} if is_data(path) else messages_of(path.read_text(encoding="utf-8"))
        if not any(texts.values()):
            continue
        if package != (package := _package(path)):
            parts.append(f"\n## {package}\n")
        parts.append(f"\n### {path.relative_to(SOURCE).as_posix()}\n")
        for kind, found in texts.items():
            if found:
                parts.append(f"\n{kind}:\n\n" + "".join(f"- {_cell(text)}\n" for text in found))
    return "".join(parts)


def is_data(path: Path) -> bool:
    """Return whether no user meets the texts of a file.

    >>> is_data(SOURCE / "oom" / "frames.py"), is_data(SOURCE / "figures" / "frames.py")
    (True, False)
    """
    return any(map(path.match, DATA))


def _package(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return "/".join(parts[:2]) if parts[0] in ("trace", "estimate") and len(parts) > 2 else parts[0]


def _cell(text: str) -> str:
    escaped = re.sub(r"([<>*_`\[\]|\\])", r"\\\1", " ".join(text.split()))
    return escaped.replace(r"\*try\*", "*try*")


def messages_of(source: str) -> dict[str, list[str]]:
    """Return the texts of a module by kind, in their order.

    >>> messages_of('raise UsageError(f"{a} is no size", hint="write 3,224")')["Errors"]
    ['{…} is no size *try* write 3,224']
    """
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    tree = ast.parse(source)
    _Reader(tree, found).visit(tree)
    return {kind: list(dict.fromkeys(texts)) for kind, texts in found.items()}


class _Reader(ast.NodeVisitor):
    def __init__(self, tree: ast.Module, found: dict[str, list[str]]) -> None:
        self.found = found
        self.constants = dict(constants(tree))
        self.is_document = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func).rpartition(".")[2]
        keywords = {item.arg: item.value for item in node.keywords if item.arg}
        if re.search(r"(Error|Failed|Failure|InDoubt|Busy|Stopping|Expired)$", name) and node.args:
            hint = self.text(keywords["hint"]) if "hint" in keywords else ""
            message = self.text(node.args[0])
            if is_message(message) or hint:
                self.found[ERRORS].append(message + (f" *try* {hint}" if hint else ""))
            self._go_on([*node.args[1:], *(v for k, v in keywords.items() if k != "hint")])
            return
        if name == "warn" and node.args and is_message(self.text(node.args[0])):
            self.found[WARNINGS].append(self.text(node.args[0]))
            return
        if name == "Finding" or "problem" in keywords:
            for value in keywords.values():
                self._note(FINDINGS, value)
            return
        if name in NO_TEXT:
            return
        for key in _HELP_KEYWORDS:
            if key in keywords:
                self._note(HELP, keywords.pop(key))
        self._go_on([node.func, *node.args, *keywords.values()])

    def visit_Constant(self, node: ast.Constant) -> None:
        if id(node) not in self.is_document:
            self._note(OTHER, node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._note(OTHER, node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Add) and self.text(node):
            self._note(OTHER, node)
        else:
            self.generic_visit(node)

    def _go_on(self, nodes: list[ast.expr]) -> None:
        for node in nodes:
            self.visit(node)

    def _note(self, kind: str, node: ast.expr) -> None:
        if isinstance(node, (ast.Tuple, ast.List)):
            for item in node.elts:
                self._note(kind, item)
        elif is_message(text := self.text(node)):
            self.found[kind].append(text)
        elif not text:
            self.generic_visit(node)

    def text(self, node: ast.expr) -> str:
        """Return an expression as text; empty when it is none."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else ""
        if isinstance(node, ast.JoinedStr):
            return "".join(
                self.text(part) if isinstance(part, ast.Constant) else self._value(part)
                for part in node.values
            )
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = self.text(node.left), self.text(node.right)
            return f"{left or '{…}'}{right or '{…}'}" if left or right else ""
        if isinstance(node, ast.IfExp):
            left, right = self.text(node.body), self.text(node.orelse)
            return " ⟋ ".join(filter(None, (left, right)))
        if isinstance(node, ast.Name):
            return self.constants.get(node.id, "")
        return ""

    def _value(self, part: ast.expr) -> str:
        value = part.value if isinstance(part, ast.FormattedValue) else part
        return self.text(value) or "{…}"


def constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield node.targets[0].id, value.value


_CODE = re.compile(
    r"[\\]|<(/|\w+ \w+=)|\{ [\w-]+: [^{}]*;|[\w)]\|[\w(\[]|\bself\.|={5}|^[\w.]+ = |\) -> [A-Z(]"
    r"|\b(tuple|list|Callable|Counter|Sequence)\["
)
"""Patterns, HTML, style sheets, types and schemas of operators: no user meets them."""
_NAMES = re.compile(r"(?!.*\b(a|and|is|of|or|the|to)\b)[a-z0-9_]+( [a-z0-9_]+){12,}")
"""A list of operators."""


def is_message(text: str) -> bool:
    if _CODE.search(text) or _NAMES.fullmatch(text):
        return False
    words = [word for word in text.split() if re.search(r"[A-Za-z]{2}", word)]
    names = [word for word in words if re.search(r"\w\.\w+$|_", word)]  # of operators, mostly
    if 2 * len(names) > len(words) >= 3:
        return False
    return len(words) >= 3 and not re.fullmatch(r"[^ ]+\|[^ ]+( [^ ]+)?", text)


def main(arguments: list[str]) -> int:
    text = pages_text()
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    if "--check" in arguments:
        print("stale: docs/messages.md; run `make messages`")
        return 1
    PAGE.write_text(text, encoding="utf-8")
    print("updated: docs/messages.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
