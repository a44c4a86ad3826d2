"""Calls in source: read and change their arguments, and lay out new ones as the file does."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import cast

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from torchgauge.advise.patch.source.files import SourceFile
from torchgauge.advise.patch.source.refusal import NoPatch

_NONE = cst.SimpleWhitespace("")
_ONE = cst.SimpleWhitespace(" ")


def arguments(call: cst.Call, kind: type) -> dict[str, int]:
    """Return the position of each argument of a constructor's call, by the parameter's name.

    Raises:
        NoPatch: some are passed by a star.
    """
    names = list(inspect.signature(kind).parameters)
    found = {}
    for index, argument in enumerate(call.args):
        if argument.star:
            raise NoPatch("its arguments are passed with *")
        found[names[index] if argument.keyword is None else argument.keyword.value] = index
    return found


def argument(call: cst.Call, kind: type, name: str) -> cst.BaseExpression | None:
    """Return what a call passes for a parameter; ``None`` where it leaves it out."""
    index = arguments(call, kind).get(name)
    return None if index is None else call.args[index].value


def with_argument(call: cst.Call, kind: type, name: str, value: str) -> cst.Call:
    """Return a call that passes a value for a parameter, laid out as before."""
    new = cst.parse_expression(value)
    index = arguments(call, kind).get(name)
    if index is not None:
        args = list(call.args)
        args[index] = args[index].with_changes(value=new)
        return call.with_changes(args=args)
    added = keyword(name, new)
    if not call.args:
        return call.with_changes(args=[added])
    *before, last = call.args
    between = call.whitespace_before_args if not before else _after(before[-1], _ONE)
    if isinstance(last.comma, cst.Comma):  # one argument a line, the last with its comma
        end = last.comma.whitespace_after
        added = added.with_changes(comma=cst.Comma(whitespace_after=_without_comment(end)))
        between = _with_comment_of(between, end)
    elif isinstance(between, cst.SimpleWhitespace):
        between = _ONE
    last = last.with_changes(comma=cst.Comma(whitespace_after=between))
    return call.with_changes(args=[*before, last, added])


def made_call(
    function: cst.BaseExpression,
    parts: Sequence[cst.BaseExpression | cst.Arg],
    file: SourceFile,
    place: cst.CSTNode,
) -> cst.Call:
    """Return a call with these arguments, on one line where it fits at a place in a file."""
    args = [part if isinstance(part, cst.Arg) else cst.Arg(part) for part in parts]
    call = cst.Call(func=function, args=_separated(args, _ONE))
    if fits(call, file, place):
        return call
    indent = _around(file, place)[1]
    inner, outer = _line(f"{indent}    "), _line(indent)
    deeper = [cast("cst.Arg", argument.visit(_Deeper())) for argument in args]
    deeper = _separated(deeper, inner)
    deeper[-1] = deeper[-1].with_changes(comma=cst.Comma(whitespace_after=outer))
    return cst.Call(func=function, args=deeper, whitespace_before_args=inner)


def keyword(name: str, value: cst.BaseExpression) -> cst.Arg:
    """Return an argument that is passed by name."""
    equal = cst.AssignEqual(whitespace_before=_NONE, whitespace_after=_NONE)
    return cst.Arg(value=value, keyword=cst.Name(name), equal=equal)


def _separated(args: list[cst.Arg], blank: cst.BaseParenthesizableWhitespace) -> list[cst.Arg]:
    comma = cst.Comma(whitespace_after=blank)
    return [*(argument.with_changes(comma=comma) for argument in args[:-1]), args[-1]]


def fits(new: cst.CSTNode, file: SourceFile, place: cst.CSTNode) -> bool:
    """Return whether an expression fits on one line in the place of another."""
    text = code(new)
    before, _, after = _around(file, place)
    return "\n" not in text and len(before) + len(text) + len(after) <= file.width


def code(node: cst.CSTNode) -> str:
    """Return the source of a node."""
    return cst.Module([]).code_for_node(node)


def _around(file: SourceFile, place: cst.CSTNode) -> tuple[str, str, str]:
    """Return what stands before an expression on its line, the line's indent, what stands after."""
    wrapper = MetadataWrapper(file.tree, unsafe_skip_copy=True)
    where = wrapper.resolve(PositionProvider)[place]
    lines = file.tree.code.split("\n")
    before = lines[where.start.line - 1][: where.start.column]
    after = lines[where.end.line - 1].rstrip()[where.end.column :]
    return before, before[: len(before) - len(before.lstrip())], after


class _Deeper(cst.CSTTransformer):
    """Indents the further lines of an expression by one level more."""

    def leave_ParenthesizedWhitespace(
        self, original_node: cst.ParenthesizedWhitespace, updated_node: cst.ParenthesizedWhitespace
    ) -> cst.ParenthesizedWhitespace:
        more = cst.SimpleWhitespace(f"{updated_node.last_line.value}    ")
        return updated_node.with_changes(last_line=more)


def _line(indent: str) -> cst.ParenthesizedWhitespace:
    return cst.ParenthesizedWhitespace(indent=False, last_line=cst.SimpleWhitespace(indent))


def _after(
    argument: cst.Arg, otherwise: cst.BaseParenthesizableWhitespace
) -> cst.BaseParenthesizableWhitespace:
    comma = argument.comma
    return comma.whitespace_after if isinstance(comma, cst.Comma) else otherwise


def _without_comment(
    space: cst.BaseParenthesizableWhitespace,
) -> cst.BaseParenthesizableWhitespace:
    if not isinstance(space, cst.ParenthesizedWhitespace):
        return space
    first = space.first_line.with_changes(comment=None, whitespace=_NONE)
    return space.with_changes(first_line=first)


def _with_comment_of(
    space: cst.BaseParenthesizableWhitespace, end: cst.BaseParenthesizableWhitespace
) -> cst.BaseParenthesizableWhitespace:
    """Return the blank between two arguments, with the comment that stood behind the first."""
    both = isinstance(space, cst.ParenthesizedWhitespace) and isinstance(
        end, cst.ParenthesizedWhitespace
    )
    if not both:
        return space
    assert isinstance(space, cst.ParenthesizedWhitespace)
    assert isinstance(end, cst.ParenthesizedWhitespace)
    return space.with_changes(first_line=end.first_line)
