"""The patch of ``attention``: product, softmax and product in a forward as one call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import libcst as cst
import torch
from torch import nn
from torch.nn import functional

from torchgauge.advise.patch.source.calls import code, keyword, made_call
from torchgauge.advise.patch.source.forwards import Forward, forward_of_class
from torchgauge.advise.patch.source.names import function, meant
from torchgauge.advise.patch.source.refusal import NoPatch
from torchgauge.advise.patch.source.sites import Sites
from torchgauge.advise.patch.source.straight import Given, Straight
from torchgauge.advise.subject import Subject

_LAST_TWO: Final = {("-2", "-1"), ("-1", "-2"), ("2", "3"), ("3", "2"), ("1", "2"), ("2", "1")}
_FILLS: Final = ("masked_fill", "masked_fill_")
_INFINITE: Final = ("float(-inf)", "-float(inf)", "-torch.inf", "-math.inf", "-inf", "-np.inf")
"""How -inf is written, without quotes."""
_DROPOUTS: Final = (torch.dropout, functional.dropout)


@dataclass(slots=True)
class _Found:
    """The parts of one attention, as source."""

    lines: list[Given] = field(default_factory=list)
    """The lines that hold them, which go."""
    queries: str = ""
    keys: str = ""
    mask: str = ""
    scale: str = "1.0"
    dropout: str = ""


def fuse_attention(
    subject: Subject, sites: Sites, where: tuple[str, ...], settings: Mapping[str, Any]
) -> None:
    """Write ``scaled_dot_product_attention`` into each forward.

    Raises:
        NoPatch: other modules have the same forward, or its code is not straight.
    """
    kinds = dict.fromkeys(type(subject.modules[path]) for path in where)
    for kind in kinds:
        for other, module in subject.modules.items():
            if type(module) is kind and other not in where:
                raise NoPatch(f"{other or 'the model'} has the same forward")
        path = next(path for path in where if type(subject.modules[path]) is kind)
        _fuse(subject, path, forward_of_class(sites, kind))


def _fuse(subject: Subject, path: str, forward: Forward) -> None:
    straight, done = Straight(forward), 0
    for node, left, right in _products(forward):
        found = _Found()
        index = straight.index_of(node) if _may_be_weights(left) else -1
        if index < 0 or not _read(subject, path, forward, straight, left, index, found):
            continue
        heads = _has_heads(subject, path)
        forward.file.put(node, _call(forward, found, code(right), node, has_heads=heads))
        _remove(forward, straight, found, index)
        done += 1
    if not done:
        raise NoPatch(f"the lines of {forward.name} do not read as product, softmax, product")


def _products(
    forward: Forward,
) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression, cst.BaseExpression]]:
    """Yield the products in a forward, each with its two sides."""
    finder = _Products()
    forward.node.body.visit(finder)
    for node in finder.found:
        sides = _sides(node, forward)
        if sides is not None:
            yield node, *sides


def _sides(
    node: cst.BaseExpression, forward: Forward
) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """Return what a product multiplies; ``None`` where it is none."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.MatrixMultiply):
        return node.left, node.right
    if not isinstance(node, cst.Call) or any(a.keyword or a.star for a in node.args):
        return None
    values = [argument.value for argument in node.args]
    if meant(node.func, forward.names) in (torch.matmul, torch.bmm) and len(values) == 2:
        return values[0], values[1]
    is_method = isinstance(node.func, cst.Attribute) and node.func.attr.value in ("matmul", "bmm")
    if is_method and len(values) == 1 and isinstance(node.func, cst.Attribute):
        return node.func.value, values[0]
    return None


def _may_be_weights(node: cst.BaseExpression) -> bool:
    return isinstance(node, (cst.Name, cst.Call))


# ---------------------------------------------------------------------------- reading backwards


def _read(
    subject: Subject, path: str, forward: Forward, straight: Straight,
    weights: cst.BaseExpression, index: int, found: _Found,
) -> bool:  # fmt: skip
    """Read dropout, softmax, mask, factor and product backwards; return whether all is there."""

    def behind(node: cst.BaseExpression) -> cst.BaseExpression:
        """Return the expression behind a name that is read once; its line goes."""
        while isinstance(node, cst.Name):
            at = found.lines[-1].index if found.lines else index
            given = straight.given(node.value, at)
            if given is None:
                return node
            found.lines.append(given)
            node = given.value
        return node

    node = behind(weights)
    child = _child(subject, path, forward, node)
    if isinstance(child, nn.Dropout) and isinstance(node, cst.Call):
        found.dropout = f"{code(node.func)}.p if {forward.this}.training else 0.0"
        node = behind(node.args[0].value)
    elif (dropped := _dropped(forward, node)) is not None:
        found.dropout = f"{code(dropped[1])} if {forward.this}.training else 0.0"
        node = behind(dropped[0])
    scores = _softmaxed(subject, path, forward, node)
    if scores is None:
        return False
    node = behind(scores)
    if (filled := _filled(node)) is not None:
        is_name = isinstance(filled[1], cst.Name)
        found.mask = f"~{code(filled[1])}" if is_name else f"~({code(filled[1])})"
        _stays(straight, filled[1], found, index)
        node = behind(filled[0])
    elif isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        found.mask = code(node.right)
        _stays(straight, node.right, found, index)
        node = behind(node.left)
    if isinstance(node, cst.BinaryOperation) and isinstance(
        node.operator, (cst.Multiply, cst.Divide)
    ):
        factor = code(node.right)
        is_plain = not isinstance(node.right, cst.BinaryOperation) or bool(node.right.lpar)
        is_plain = is_plain or isinstance(getattr(node.right, "operator", None), cst.Power)
        bracketed = factor if is_plain else f"({factor})"
        found.scale = factor if isinstance(node.operator, cst.Multiply) else f"1.0 / {bracketed}"
        _stays(straight, node.right, found, index)
        node = behind(node.left)
    sides = _sides(node, forward)
    if sides is None:
        return False
    for side in sides:
        _stays(straight, side, found, index)
    found.queries, found.keys = code(sides[0]), _untransposed(sides[1])
    return True


def _stays(straight: Straight, node: cst.BaseExpression, found: _Found, index: int) -> None:
    """Refuse a part whose names change before the line that it moves to."""
    if found.lines:
        straight.refuse_changed(node, found.lines[-1].index, index, found.lines)


def _child(
    subject: Subject, path: str, forward: Forward, node: cst.BaseExpression
) -> nn.Module | None:
    """Return the module that ``self.name(…)`` calls with one argument."""
    if not isinstance(node, cst.Call) or len(node.args) != 1:
        return None
    name = forward.attribute_of(node.func)
    child = getattr(subject.modules[path], name, None) if name else None
    return child if isinstance(child, nn.Module) else None


def _dropped(
    forward: Forward, node: cst.BaseExpression
) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """Return what ``F.dropout`` drops in training, and with which probability."""
    if not isinstance(node, cst.Call) or meant(node.func, forward.names) not in _DROPOUTS:
        return None
    values = [a.value for a in node.args if a.keyword is None]
    given = dict(zip(("input", "p", "training"), values, strict=False))
    given |= {a.keyword.value: a.value for a in node.args if a.keyword is not None}
    is_known = given.keys() == {"input", "p", "training"}
    if not is_known or code(given["training"]) != f"{forward.this}.training":
        return None
    return given["input"], given["p"]


def _filled(
    node: cst.BaseExpression,
) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """Return the scores of ``scores.masked_fill(mask, -inf)``, and the mask.

    Raises:
        NoPatch: they are filled with something else.
    """
    method = node.func if isinstance(node, cst.Call) else None
    if not isinstance(method, cst.Attribute) or method.attr.value not in _FILLS:
        return None
    assert isinstance(node, cst.Call)
    values = [argument.value for argument in node.args]
    if len(values) != 2 or re.sub(r"[\s\"']", "", code(values[1])) not in _INFINITE:
        raise NoPatch("the scores are filled with another value than -inf, so rows without any "
                      "key would differ")  # fmt: skip
    return method.value, values[0]


def _softmaxed(
    subject: Subject, path: str, forward: Forward, node: cst.BaseExpression
) -> cst.BaseExpression | None:
    """Return what goes into a softmax over the last dimension."""
    child = _child(subject, path, forward, node)
    if isinstance(child, nn.Softmax) and isinstance(node, cst.Call):
        return node.args[0].value if child.dim == -1 else None
    if not isinstance(node, cst.Call):
        return None
    values = [a.value for a in node.args if a.keyword is None]
    named = {a.keyword.value: a.value for a in node.args if a.keyword is not None}
    if meant(node.func, forward.names) in (torch.softmax, functional.softmax) and values:
        inside, values = values[0], values[1:]
    elif isinstance(node.func, cst.Attribute) and node.func.attr.value == "softmax":
        inside = node.func.value
    else:
        return None
    dimension = values[0] if len(values) == 1 else named.get("dim")
    if dimension is None or named.keys() - {"dim"} or code(dimension) != "-1":
        return None
    return inside


def _untransposed(node: cst.BaseExpression) -> str:
    """Return the keys before they were transposed."""
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        given = tuple(code(argument.value) for argument in node.args)
        if node.func.attr.value == "transpose" and given in _LAST_TWO:
            return code(node.func.value)
    if isinstance(node, cst.Attribute) and node.attr.value == "mT":
        return code(node.value)
    text = code(node)
    return f"({text}).transpose(-2, -1)" if isinstance(node, cst.BinaryOperation) else (
        f"{text}.transpose(-2, -1)"
    )  # fmt: skip


# ---------------------------------------------------------------------------- writing


def _has_heads(subject: Subject, path: str) -> bool:
    """Return whether the softmax had four dimensions, as the fast kernels take them."""
    calls = {call.index for call in subject.calls.get(path, ())}
    inside = {
        call.index
        for call in subject.trace.calls
        if call.index in calls or call.parent in calls
    }  # fmt: skip
    for op in subject.trace.ops:
        if op.call in inside and op.name.startswith("aten._softmax.") and op.outputs:
            return len(op.outputs[0].shape) > 3
    return True


def _call(
    forward: Forward, found: _Found, values: str, place: cst.CSTNode, *, has_heads: bool
) -> cst.BaseExpression:
    parts = [found.queries, found.keys, values]
    if not has_heads:
        if found.mask:
            raise NoPatch("a three-dimensional mask would be read as one mask per head")
        parts = [f"{_bracketed(part)}.unsqueeze(1)" for part in parts]
    args = [cst.Arg(cst.parse_expression(part)) for part in parts]
    named = {"attn_mask": found.mask, "dropout_p": found.dropout, "scale": found.scale}
    args += [keyword(name, cst.parse_expression(text)) for name, text in named.items() if text]
    name = function("scaled_dot_product_attention", forward.names)
    call = made_call(name, args, forward.file, place)
    if has_heads:
        return call
    return cst.Call(cst.Attribute(call, cst.Name("squeeze")), [cst.Arg(cst.Integer("1"))])


def _remove(forward: Forward, straight: Straight, found: _Found, index: int) -> None:
    """Take out the lines that the call replaces; what stands above the first one stays."""
    above: list[cst.EmptyLine] = []
    for given in found.lines:  # the last one first
        above = [*getattr(given.line, "leading_lines", ()), *above]
        forward.file.edit(given.line, lambda _: cst.RemoveFromParent())
    if above:
        forward.file.edit(
            straight.line(index),
            lambda node: node.with_changes(
                leading_lines=[*above, *getattr(node, "leading_lines", ())]
            ),
        )


def _bracketed(text: str) -> str:
    node = cst.parse_expression(text)
    return f"({text})" if isinstance(node, cst.BinaryOperation) and not node.lpar else text


class _Products(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[cst.BaseExpression] = []

    def visit_BinaryOperation(self, node: cst.BinaryOperation) -> None:
        self.found.append(node)

    def visit_Call(self, node: cst.Call) -> None:
        self.found.append(node)
