"""The patch of ``global-pooling``: an average before the flattening, and a smaller layer after."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

import libcst as cst
import torch
from torch import nn

from torchgauge.advise.patch.source.calls import argument, code, fits, made_call, with_argument
from torchgauge.advise.patch.source.forwards import Forward, forward_of
from torchgauge.advise.patch.source.names import function, layer, meant
from torchgauge.advise.patch.source.refusal import NoPatch
from torchgauge.advise.patch.source.sites import Sites
from torchgauge.advise.subject import Subject, input_of

_NAMES = ("pooled", "pooled_map", "average_of_map", "averaged_over_all_pixels")
"""For a variable that the file does not have yet."""


def pool(
    subject: Subject, sites: Sites, where: tuple[str, ...], settings: Mapping[str, Any]
) -> None:
    """Write the average and the smaller layer.

    Raises:
        NoPatch: either is not one plain piece of source.
    """
    (path,) = where
    site = sites.of(path)
    call = site.call_of(nn.Linear)
    given = argument(call, nn.Linear, "in_features")
    if given is None:
        raise NoPatch("its size is not passed")
    small = with_argument(call, nn.Linear, "in_features", _channels(given, settings))
    flattening = _flattening(subject, path)
    site.file.put(call, small)
    if isinstance(subject.modules.get(flattening), nn.Flatten):
        _before_module(sites, flattening)
    else:
        _before_call(sites, forward_of(sites, subject, flattening))


def _before_module(sites: Sites, path: str) -> None:
    """Put the average and the flattening into the place of one: the numbers after it stay."""
    site = sites.of(path)
    call = site.call_of(nn.Flatten)
    average = cst.Call(layer("AdaptiveAvgPool2d", site.names), [cst.Arg(cst.Integer("1"))])
    both = made_call(layer("Sequential", site.names), [average, call], site.file, call)
    site.file.put(call, both)


def _before_call(sites: Sites, forward: Forward) -> None:
    found = list(_flattenings(forward))
    if not found:
        raise NoPatch(f"{forward.name} has no flatten that torchgauge knows")
    if len(found) > 1:
        raise NoPatch(f"{forward.name} flattens several times")
    ((call, flat, has_size),) = found
    average = function("adaptive_avg_pool2d", forward.names)
    pooled = cst.Call(average, [
        cst.Arg(flat, comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))),
        cst.Arg(cst.Integer("1")),
    ])  # fmt: skip
    new: cst.BaseExpression = pooled
    if has_size:  # ``view(-1, 128 * 7 * 7)``
        new = cst.parse_expression(f"{code(pooled)}.flatten(1)")
        old: cst.BaseExpression = call
    else:
        old = flat
    if fits(new, forward.file, old):
        forward.file.put(old, new)
        return
    line = forward.file.line_of(call)
    name = next(name for name in _NAMES if not forward.names_it(name))
    first = cst.SimpleStatementLine([cst.Assign([cst.AssignTarget(cst.Name(name))], new)])
    forward.file.put(old, cst.Name(name))

    def edit(after: cst.CSTNode) -> cst.FlattenSentinel[cst.CSTNode]:
        assert isinstance(after, cst.SimpleStatementLine)
        above = first.with_changes(leading_lines=after.leading_lines)
        return cst.FlattenSentinel([above, after.with_changes(leading_lines=[])])

    forward.file.edit(line, edit)


def _flattenings(forward: Forward) -> Iterator[tuple[cst.Call, cst.BaseExpression, bool]]:
    """Yield calls that flatten all but the batch, what they flatten, and whether by a size."""
    for call in forward.calls():
        values = [a.value for a in call.args if a.keyword is None and not a.star]
        named = {a.keyword.value: a.value for a in call.args if a.keyword is not None}
        if meant(call.func, forward.names) is torch.flatten and values:
            start = values[1] if len(values) > 1 else named.get("start_dim")
            if start is not None and code(start) == "1" and len(values) <= 2:
                yield call, values[0], False
        elif isinstance(call.func, cst.Attribute) and not named.keys() - {"start_dim"}:
            name, flat = call.func.attr.value, call.func.value
            start = values[0] if values else named.get("start_dim")
            if name == "flatten" and start is not None and code(start) == "1" and len(values) <= 1:
                yield call, flat, False
            elif name in ("view", "reshape") and len(values) == 2:
                is_rest = code(values[1]) == "-1" or code(values[0]) == "-1"
                if is_rest and code(values[0]) != code(values[1]):
                    yield call, flat, True


def _channels(given: cst.BaseExpression, settings: Mapping[str, Any]) -> str:
    """Return how the file writes the channels: ``width * 2`` of ``width * 2 * 7 * 7``."""
    pixels, left, node = settings["height"] * settings["width"], 1, given
    while isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply):
        factor = _number(code(node.right))
        if factor is None or left == pixels:
            break
        left, node = left * factor, node.left
    return code(node) if left == pixels else str(int(settings["channels"]))


def _number(text: str) -> int | None:
    """Return the value of a literal such as ``7``, ``(7 * 7)`` or ``7**2``."""
    try:
        tree = ast.parse(text, mode="eval")
        allowed = (ast.Expression, ast.BinOp, ast.Mult, ast.Pow, ast.Constant)
        if not all(isinstance(node, allowed) for node in ast.walk(tree)):
            return None
        left = tree.body
        if isinstance(left, ast.BinOp) and isinstance(left.op, ast.Pow):
            base, power = _number(ast.unparse(left.left)), _number(ast.unparse(left.right))
            return base**power if base is not None and power in (1, 2) else None
        if isinstance(left, ast.BinOp):
            one, other = _number(ast.unparse(left.left)), _number(ast.unparse(left.right))
            return None if one is None or other is None else one * other
        value = left.value if isinstance(left, ast.Constant) else None
        return value if type(value) is int else None
    except SyntaxError:
        return None


def _flattening(subject: Subject, path: str) -> str:
    """Return the module whose own code flattens what a layer reads."""
    call = subject.only_call(path)
    given = None if call is None else input_of(call)
    if call is None or given is None:
        raise NoPatch(f"{path} is not called exactly once")
    read = {
        storage for op in subject.trace.ops[call.first_op : call.end_op] for storage in op.reads
    }
    found = ""
    is_found = False
    for op in subject.trace.ops[: call.first_op]:
        shapes = [spec.shape for spec in op.outputs]
        if read & set(op.writes or op.reads) and shapes and shapes[-1] == given.shape:
            found, is_found = subject.path_of(op), True
    if not is_found:
        raise NoPatch(f"nothing in the trace flattens the input of {path}")
    return found
