"""The user's source files, as trees that keep every comment and blank."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import libcst as cst

from torchgauge.advise.patch.source.refusal import NoPatch
from torchgauge.models.users_code import is_users

Edit = Callable[[cst.CSTNode], cst.CSTNode | cst.RemovalSentinel | cst.FlattenSentinel[cst.CSTNode]]
_LONGEST = 100
"""Characters of a line where the file does not say otherwise."""
_SHORTEST = 88


class SourceFile:
    """One file: as it is, and as it will be."""

    def __init__(self, path: Path) -> None:
        try:
            self.before = path.read_bytes().decode("utf-8")
            self.tree = cst.parse_module(self.before)
        except (OSError, UnicodeDecodeError, cst.ParserSyntaxError) as error:
            raise NoPatch(f"{path.name} cannot be read as Python in UTF-8") from error
        self.path = path
        self._edits: dict[cst.CSTNode, Edit] = {}

    @property
    def after(self) -> str:
        """Return the text with all edits made."""
        if not self._edits:
            return self.tree.code
        changed = self.tree.visit(_Editor(self._edits))
        assert isinstance(changed, cst.Module)
        return changed.code

    @property
    def width(self) -> int:
        """Return how long lines may get here."""
        longest = max(len(line.rstrip()) for line in self.before.split("\n"))
        return _LONGEST if longest > _SHORTEST else _SHORTEST

    def edit(self, node: cst.CSTNode, edit: Edit) -> None:
        """Change a node; the edit gets it with what has changed inside.

        Raises:
            NoPatch: another edit is about the same node.
        """
        if node in self._edits:
            raise NoPatch("two edits change the same place")
        self._edits[node] = edit

    def put(self, old: cst.CSTNode, new: cst.CSTNode) -> None:
        """Put a node into the place of another one.

        Raises:
            NoPatch: another edit is about the same node.
        """
        self.edit(old, lambda _: new)

    def settle(self) -> None:
        """Make the edits so far; later ones are about the new text."""
        self.tree = cst.parse_module(self.after)
        self._edits = {}

    def line_of(self, node: cst.CSTNode) -> cst.SimpleStatementLine:
        """Return the line of source that a node stands in, with no other statement.

        Raises:
            NoPatch: there is none.
        """
        finder = _Lines(node)
        self.tree.visit(finder)
        if finder.found is None or len(finder.found.body) > 1:
            raise NoPatch("it shares its line with another statement")
        return finder.found

    def class_of(self, kind: type) -> cst.ClassDef:
        """Return the definition of a class.

        Raises:
            NoPatch: it is not there once.
        """
        body: cst.CSTNode = self.tree
        for name in kind.__qualname__.split("."):
            found = [node for node in statements(body) if isinstance(node, cst.ClassDef)]
            found = [node for node in found if node.name.value == name]
            if len(found) != 1:
                raise NoPatch(f"{self.path.name} does not define {kind.__qualname__} exactly once")
            (body,) = found
        assert isinstance(body, cst.ClassDef)
        return body


class Files:
    """The files that one patch changes."""

    def __init__(self) -> None:
        self._files: dict[Path, SourceFile] = {}

    def of(self, path: Path) -> SourceFile:
        """Return a file, read once."""
        if path not in self._files:
            self._files[path] = SourceFile(path)
        return self._files[path]

    def of_class(self, kind: type) -> SourceFile:
        """Return the file of one of the user's classes.

        Raises:
            NoPatch: it is not the user's.
        """
        path = users_file(kind)
        if path is None:
            home = kind.__module__.partition(".")[0]
            raise NoPatch(f"{kind.__name__} is not in a file of yours: it belongs to {home}")
        return self.of(path)

    def settle(self) -> None:
        """Make the edits so far in each file."""
        for file in self._files.values():
            file.settle()

    def texts(self) -> dict[str, str]:
        """Return the new text of each file that has changed, by its path."""
        found = {str(path): (file.before, file.after) for path, file in self._files.items()}
        return {path: after for path, (before, after) in found.items() if before != after}

    def diff(self) -> str:
        """Return a unified diff of all files, as ``git apply`` and ``patch -p1`` take it."""
        texts = self.texts()
        base = base_of(texts)
        return "".join(
            _diff(Path(path).relative_to(base), self._files[Path(path)].before, after)
            for path, after in sorted(texts.items())
        )


def users_file(kind: type) -> Path | None:
    """Return the file that defines a class, where it is the user's own."""
    try:
        name = inspect.getsourcefile(kind)
    except (OSError, TypeError):
        return None
    if name is None or not Path(name).is_file():
        return None
    path = Path(name).resolve()
    return path if is_users(path) else None


def statements(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield the statements of a body, in order, without those that are nested in them."""
    body = getattr(node, "body", ())
    yield from getattr(body, "body", body)


def base_of(paths: Iterable[str]) -> Path:
    """Return the folder that a diff names its files from: this one, or the one that holds all."""
    folders = [Path(path).parent for path in paths]
    here = Path.cwd().resolve()
    if all(folder.is_relative_to(here) for folder in folders):
        return here
    return Path(os.path.commonpath(folders))


def _diff(path: Path, before: str, after: str) -> str:
    name = path.as_posix()
    lines = difflib.unified_diff(_lines(before), _lines(after), f"a/{name}", f"b/{name}")
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _lines(text: str) -> list[str]:
    """Return the lines with their ends; Python's ``splitlines`` also cuts at a form feed."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


class _Editor(cst.CSTTransformer):
    def __init__(self, edits: dict[cst.CSTNode, Edit]) -> None:
        super().__init__()
        self._edits = edits

    def on_leave(  # type: ignore[override]
        self, original_node: cst.CSTNode, updated_node: cst.CSTNode
    ) -> cst.CSTNode | cst.RemovalSentinel | cst.FlattenSentinel[cst.CSTNode]:
        edit = self._edits.get(original_node)
        return updated_node if edit is None else edit(updated_node)


class _Lines(cst.CSTVisitor):
    def __init__(self, node: cst.CSTNode) -> None:
        super().__init__()
        self._node = node
        self._line: cst.SimpleStatementLine | None = None
        self.found: cst.SimpleStatementLine | None = None

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> None:
        self._line = node

    def on_visit(self, node: cst.CSTNode) -> bool:
        goes_on = super().on_visit(node)
        if node is self._node:
            self.found = self._line
        return goes_on
