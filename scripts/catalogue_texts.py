"""Every text of the source that a person reads, as a template for translators.

``{1}`` stands for a value, so a translation can put values in another order. What
`list_messages.py` shows as one message with its hint is here two texts, because the program
translates each by itself. Short labels count too, in the files that make pages and help.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from catalogue_rules import (
    COMMAND,
    DAMAGED,
    KEYWORDS_OF_NAMES,
    LABELLED,
    LEFT_OUT,
    NAMES,
    NAMES_OF_CODE,
    NO_LABEL,
    NO_SENTENCE,
    OF_ARGPARSE,
    OF_NAMES,
    PATTERNS,
    TOLD,
    VOCABULARY,
)
from list_messages import NO_TEXT, SOURCE, constants, is_data


def source_texts() -> dict[str, list[str]]:
    """Return every template with the files that it stands in, in the order of the files."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith(tuple(LEFT_OUT)) or is_data(path):
            continue
        for text in texts_of(path.read_text(encoding="utf-8"), labels=name.startswith(LABELLED)):
            files = found.setdefault(_with_subject(text) if name.startswith(DAMAGED) else text, [])
            if name not in files:
                files.append(name)
    for text in VOCABULARY:
        found.setdefault(text, []).append("words put together at run time")
    for text in OF_ARGPARSE:
        found.setdefault(text, []).append("Python's argparse")
    return found


def _with_subject(text: str) -> str:
    """Return what is wrong with a place of a file, after that place.

    >>> _with_subject("is {1}, which is negative")
    '{1} is {2}, which is negative'
    """
    if not re.match(r"(is|do|has|hold|holds|says|goes|makes|cannot be) ", text):
        return text
    return "{1} " + re.sub(r"\{(\d+)\}", lambda match: f"{{{int(match[1]) + 1}}}", text)


def texts_of(source: str, *, labels: bool = False) -> list[str]:
    """Return the templates of a module; with ``labels`` short ones as well.

    >>> texts_of('raise UsageError(f"{a} is no size of {b}", hint="write 3,224")')
    ['{1} is no size of {2}', 'write 3,224']
    >>> texts_of('fact("Params", f"{a} in all" + (" so far" if b else ""))', labels=True)
    ['Params', '{1} in all{2}', ' so far']
    """
    tree = ast.parse(source)
    reader = _Reader(tree, labels)
    reader.visit(tree)
    return list(dict.fromkeys(reader.found))


class _Reader(ast.NodeVisitor):
    """Collects the texts of one module, outermost first."""

    def __init__(self, tree: ast.Module, labels: bool) -> None:
        self.found: list[str] = []
        self._labels = labels
        self._constants = dict(constants(tree))
        self._silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}

    # ------------------------------------------------------------------------ nothing to read

    def visit_Assert(self, node: ast.Assert) -> None:
        """Skip: a text for developers."""

    def visit_arg(self, node: ast.arg) -> None:
        """Skip annotations."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for child in (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body):
            self.visit(child)

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_Compare(self, node: ast.Compare) -> None:
        """Skip: what is compared is a name."""

    def visit_match_case(self, node: ast.match_case) -> None:
        for child in node.body:
            self.visit(child)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)
        if not isinstance(node.slice, ast.Constant):
            self.visit(node.slice)

    def visit_Dict(self, node: ast.Dict) -> None:
        for child in node.values:
            self.visit(child)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [ast.unparse(target) for target in node.targets]
        is_data = names == ["columns"] and not any(
            isinstance(item, ast.Call) for item in ast.walk(node.value)
        )
        if not is_data and not any(name in NAMES_OF_CODE for name in names):
            self.visit(node.value)

    # ------------------------------------------------------------------------ texts

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in NO_TEXT or name in OF_NAMES or name == "format_count":
            return
        if name == "add_argument":
            self._options(node)
            return
        if name == "format_number_of" and isinstance(node.args[1], ast.Constant):
            noun = node.args[1].value
            self.found += [f"{{1}} {noun}", f"{{1}} {noun}s"]
            self.visit(node.args[0])
            return
        if name in TOLD:
            for child in node.args:
                self._take(child, short=True)
            return
        if re.search(r"(Error|Failed|Failure|InDoubt)$", name):
            self._error(node)
            return
        if isinstance(node.func, ast.Attribute):
            is_text = isinstance(node.func.value, ast.Constant)
            if not is_text or name in ("format", "replace", "removesuffix"):
                self.visit(node.func.value)
        for child in node.args:
            self.visit(child)
        for keyword in node.keywords:
            if keyword.arg not in KEYWORDS_OF_NAMES:
                self.visit(keyword.value)

    def _error(self, node: ast.Call) -> None:
        for child in node.args:
            self._take(child, short=True)
        for keyword in node.keywords:
            if keyword.arg not in KEYWORDS_OF_NAMES:
                self._take(keyword.value, short=keyword.arg == "hint")

    def _options(self, node: ast.Call) -> None:
        for keyword in node.keywords:
            if keyword.arg == "help":
                before = len(self.found)
                self._take(keyword.value, short=True)
                # argparse writes %% as %, and it does so before help is translated
                self.found[before:] = [text.replace("%%", "%") for text in self.found[before:]]

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and id(node) not in self._silent:
            self._take(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._take(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Add) and any(map(self._is_text, (node.left, node.right))):
            self._take(node)
        else:
            self.generic_visit(node)

    def _is_text(self, node: ast.expr) -> bool:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._is_text(node.left) or self._is_text(node.right)
        return isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        )

    def _take(self, node: ast.expr, *, short: bool = False) -> None:
        """Note a text, then those inside its values."""
        pieces = list(self._pieces(node))
        if any(isinstance(piece, str) for piece in pieces):
            text = template(pieces)
            if (_is_label if self._labels or short else _is_sentence)(text):
                self.found.append(text)
        for piece in pieces:
            if not isinstance(piece, (str, ast.Constant)):
                self._inside(piece)

    def _inside(self, node: ast.expr) -> None:
        """Note the texts that stand for a value: ``' so far' if failed else ''``."""
        if isinstance(node, ast.IfExp):
            for child in (node.body, node.orelse):
                self._inside(child)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _is_label(node.value) and id(node) not in self._silent:
                self.found.append(node.value)
        elif isinstance(node, (ast.JoinedStr, ast.BinOp)) and self._is_text(node):
            text = template(list(self._pieces(node)))
            if _is_label(text):
                self.found.append(text)
        else:
            self.visit(node)

    def _pieces(self, node: ast.expr) -> Iterator[str | ast.expr]:
        """Yield literal texts and the values between them."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = re.split(r"\{[a-z_]+\}", node.value)
            for number, text in enumerate(named):
                if number:
                    yield ast.Constant(value=None)
                if text:
                    yield text
        elif isinstance(node, ast.JoinedStr):
            for part in node.values:
                if isinstance(part, ast.Constant):
                    yield str(part.value)
                elif isinstance(part, ast.FormattedValue):
                    yield from self._value(part.value)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            yield from self._pieces(node.left)
            yield from self._pieces(node.right)
        else:
            yield from self._value(node)

    def _value(self, node: ast.expr) -> Iterator[str | ast.expr]:
        if isinstance(node, ast.Name) and node.id in self._constants:
            yield self._constants[node.id]
        else:
            yield node


def template(pieces: list[str | ast.expr]) -> str:
    """Return a text with numbered fields; values that touch each other are one field.

    >>> template(["peak ", ast.Name("a"), ast.Name("b"), " in ", ast.Name("c")])
    'peak {1} in {2}'
    """
    text, number, in_value = "", 0, False
    for piece in pieces:
        if isinstance(piece, str):
            text += piece.replace("{", "{{").replace("}", "}}")
        elif not in_value:
            number += 1
            text += f"{{{number}}}"
        in_value = not isinstance(piece, str)
    return text


def _is_sentence(text: str) -> bool:
    """Return whether a text outside of pages and help is one: two words, or one and a value."""
    if not _is_label(text) or " " not in text.strip() or NO_SENTENCE.search(text):
        return False
    words = re.findall(r"(?<![\w./:=-])[A-Za-z][a-z-]+(?![\w/(=]|\.\w|:\w)", text)
    return len(words) >= 2 or (bool(words) and "{1}" in text)


def _is_label(text: str) -> bool:
    words = re.sub(r"\{\d+\}", " ", text)
    if words.strip() in NAMES or text in PATTERNS or COMMAND.fullmatch(words):
        return False
    return bool(re.search(r"[A-Za-z]{2}", words)) and not NO_LABEL.search(words)
