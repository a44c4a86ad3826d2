"""The function of the user's that a spec names, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst

from torchgauge.advise.patch.source.files import SourceFile, statements
from torchgauge.advise.patch.source.sites import Sites


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function that makes the model."""

    file: SourceFile
    node: cst.FunctionDef

    @classmethod
    def of(cls, sites: Sites) -> Function | None:
        """Return the function that the spec of a model names; ``None`` for a class or a model."""
        file, name = sites.named()
        for statement in statements(file.tree) if file is not None else ():
            if isinstance(statement, cst.FunctionDef) and statement.name.value == name:
                assert file is not None
                return cls(file=file, node=statement)
        return None

    @property
    def last(self) -> cst.SimpleStatementLine | None:
        """Return the line that returns, where that is the last one and the only one that does."""
        finder = _Returns()
        self.node.body.visit(finder)
        lines = list(statements(self.node))
        last = lines[-1] if lines else None
        is_line = isinstance(last, cst.SimpleStatementLine) and len(last.body) == 1
        if len(finder.found) != 1 or not is_line:
            return None
        assert isinstance(last, cst.SimpleStatementLine)
        return last if isinstance(last.body[0], cst.Return) else None

    @property
    def returned(self) -> cst.BaseExpression | None:
        """Return what the last line returns."""
        small = self.last.body[0] if self.last is not None else None
        return small.value if isinstance(small, cst.Return) else None


class _Returns(cst.CSTVisitor):
    """Finds what a function returns, those inside of it aside."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[cst.Return] = []

    def visit_Return(self, node: cst.Return) -> None:
        self.found.append(node)

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        return False

    def visit_Lambda(self, node: cst.Lambda) -> bool:
        return False
