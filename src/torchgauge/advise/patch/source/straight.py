"""Straight code: which line gave a name its value, and who else reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import libcst as cst

from torchgauge.advise.patch.source.calls import code
from torchgauge.advise.patch.source.forwards import Forward
from torchgauge.advise.patch.source.refusal import NoPatch

_OPERATORS: Final[dict[type[cst.BaseAugOp], type[cst.BaseBinaryOp]]] = {
    cst.AddAssign: cst.Add, cst.MultiplyAssign: cst.Multiply, cst.DivideAssign: cst.Divide,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A line that gives a name its value."""

    index: int
    line: cst.BaseStatement
    value: cst.BaseExpression


class Straight:
    """The statements of a forward, one after the other."""

    def __init__(self, forward: Forward) -> None:
        body = forward.node.body
        if not isinstance(body, cst.IndentedBlock):
            raise NoPatch(f"{forward.name} is a single line")
        self._lines: Sequence[cst.BaseStatement] = body.body

    def line(self, index: int) -> cst.BaseStatement:
        """Return a statement."""
        return self._lines[index]

    def index_of(self, node: cst.CSTNode) -> int:
        """Return the statement that holds an expression.

        Raises:
            NoPatch: it stands inside a branch or a loop.
        """
        for index, line in enumerate(self._lines):
            finder = _Finder(node)
            line.visit(finder)
            if finder.is_there:
                if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
                    return index
                break
        raise NoPatch("it stands in a branch or a loop")

    def given(self, name: str, before: int) -> Given | None:
        """Return the line that gave a name the value that a statement reads, and no other reads.

        ``None`` where the name is an argument, or others read the value too.
        """
        if _reads(self._lines[before], name) != 1 or self._is_read_after(name, before):
            return None
        for index in range(before - 1, -1, -1):
            line = self._lines[index]
            value = _value_of(line, name)
            if value is not None:
                return Given(index=index, line=line, value=value)
            if _reads(line, name) or name in _written(line):
                return None
        return None

    def refuse_changed(
        self, expression: cst.BaseExpression, after: int, before: int, gone: Sequence[Given]
    ) -> None:
        """Refuse an expression whose names get other values between two statements.

        ``gone`` are lines that will no longer be there.

        Raises:
            NoPatch: one does.
        """
        names = _Names()
        expression.visit(names)
        skipped = {given.index for given in gone}
        for index in range(after + 1, before):
            both = names.found & _written(self._lines[index])
            if both and index not in skipped:
                raise NoPatch(f"{min(both)} changes between the product and the softmax")

    def _is_read_after(self, name: str, index: int) -> bool:
        if name in _written(self._lines[index]):
            return False
        for line in self._lines[index + 1 :]:
            if _reads(line, name):
                return True
            if name in _written(line):
                return False
        return False


def _small(line: cst.CSTNode) -> cst.BaseSmallStatement | None:
    """Return the only statement of a line, or the addition of an optional mask.

    That is ``scores = scores + mask`` under ``if mask is not None:``; to add ``None`` is to add
    nothing for ``scaled_dot_product_attention``.
    """
    if isinstance(line, cst.SimpleStatementLine):
        return line.body[0] if len(line.body) == 1 else None
    if not isinstance(line, cst.If) or line.orelse is not None:
        return None
    body = line.body.body
    inner = _small(body[0]) if len(body) == 1 and not isinstance(body[0], cst.If) else None
    added = _added(inner)
    test = line.test
    if added is None or not isinstance(test, cst.Comparison) or len(test.comparisons) != 1:
        return None
    (target,) = test.comparisons
    is_there = isinstance(target.operator, cst.IsNot) and code(target.comparator) == "None"
    return inner if is_there and code(added) == code(test.left) else None


def _added(small: cst.BaseSmallStatement | None) -> cst.BaseExpression | None:
    """Return what a statement adds to a name."""
    if isinstance(small, cst.AugAssign) and isinstance(small.operator, cst.AddAssign):
        return small.value
    if isinstance(small, cst.Assign) and isinstance(small.value, cst.BinaryOperation):
        same = code(small.targets[0].target) == code(small.value.left)
        return small.value.right if same and isinstance(small.value.operator, cst.Add) else None
    return None


def _value_of(line: cst.CSTNode, name: str) -> cst.BaseExpression | None:
    """Return what a line gives to a name; of ``x *= 2`` that is ``x * 2``."""
    small = _small(line)
    if isinstance(small, cst.Assign) and len(small.targets) == 1:
        target = small.targets[0].target
        return small.value if isinstance(target, cst.Name) and target.value == name else None
    if isinstance(small, cst.AugAssign) and isinstance(small.target, cst.Name):
        kind = _OPERATORS.get(type(small.operator))
        if small.target.value == name and kind is not None:
            return cst.BinaryOperation(left=small.target, operator=kind(), right=small.value)
    return None


def _written(line: cst.CSTNode) -> set[str]:
    """Return the names that a statement gives values to, branches included."""
    finder = _Written()
    line.visit(finder)
    return finder.found


def _reads(line: cst.CSTNode, name: str) -> int:
    """Return how often a statement reads a variable; ``x *= 2`` reads it once."""
    names = _Names()
    line.visit(names)
    small = _small(line)
    is_target = isinstance(small, cst.Assign) and _value_of(line, name) is not None
    return names.counts.get(name, 0) - is_target


class _Finder(cst.CSTVisitor):
    def __init__(self, node: cst.CSTNode) -> None:
        super().__init__()
        self._node = node
        self.is_there = False

    def on_visit(self, node: cst.CSTNode) -> bool:
        self.is_there = self.is_there or node is self._node
        return not self.is_there


class _Names(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    @property
    def found(self) -> set[str]:
        return {name for name, count in self.counts.items() if count > 0}

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        node.value.visit(self)
        return False

    def visit_Arg_keyword(self, node: cst.Arg) -> None:
        if node.keyword is not None:  # its name is read below, and is no variable
            self.counts[node.keyword.value] = self.counts.get(node.keyword.value, 0) - 1

    def visit_Name(self, node: cst.Name) -> None:
        self.counts[node.value] = self.counts.get(node.value, 0) + 1


class _Written(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def visit_AssignTarget(self, node: cst.AssignTarget) -> None:
        self._add(node.target)

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        self._add(node.target)

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        self._add(node.target)

    def visit_For(self, node: cst.For) -> None:
        self._add(node.target)

    def visit_NamedExpr(self, node: cst.NamedExpr) -> None:
        self._add(node.target)

    def _add(self, target: cst.BaseExpression) -> None:
        names = _Names()
        target.visit(names)
        self.found |= names.found
