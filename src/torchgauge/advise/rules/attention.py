"""Attention written by hand: products and a softmax that one operator can do.

The module is traced by ``torch.fx``; its children stay as they are. What cannot be traced, or
returns its weights, is left alone.
"""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from torchgauge.advise.flow import is_forward, source_of
from torchgauge.advise.hooks import seen_by_hooks
from torchgauge.advise.rules.only_finds import named
from torchgauge.advise.rules.retraced import IN_TRAINING, code_of, given_tensors, module_of
from torchgauge.advise.subject import Subject, put
from torchgauge.changes.change import Change
from torchgauge.units import format_number_of

_MATMULS: Final = (torch.matmul, torch.bmm, operator.matmul, "matmul", "bmm")
_SOFTMAXES: Final = (torch.softmax, F.softmax, "softmax")
_TIMES: Final = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_OVER: Final = (operator.truediv, operator.itruediv, torch.div, "div", "div_")
_PLUS: Final = (operator.add, operator.iadd, torch.add, "add", "add_")
_FILLS: Final = (torch.masked_fill, "masked_fill", "masked_fill_")
_DROPOUTS: Final = (F.dropout, torch.dropout)
_NAME: Final = "fused_attention"
_TORCHS: Final = "torch's own module fuses it where need_weights=False"
_HARDLY_ANY: Final = -1e9
"""A score added to a number so low rounds to it, so that rows without any key stay as they are."""


class Attention(nn.Module):
    """Attention as one operator; ``dropout`` acts in training alone.

    ``filled`` is what the scores are filled with where the last argument of ``forward`` says so.
    """

    def __init__(self, dropout: float = 0.0, filled: float = -math.inf) -> None:
        super().__init__()
        self.dropout = dropout
        self.filled = filled

    def forward(
        self,
        q: Tensor,
        keys: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float,
        filled: Tensor | None = None,
    ) -> Tensor:
        """Return softmax(scale · q · keys + mask) · v; ``keys`` come transposed."""
        mask = self._mask(q, mask, filled)
        dropout = self.dropout if self.training else 0.0
        has_heads = q.dim() > 3
        if not has_heads:  # the fast kernels take four dimensions only
            q, keys, v = q.unsqueeze(-3), keys.unsqueeze(-3), v.unsqueeze(-3)
            mask = mask.unsqueeze(-3) if mask is not None and mask.dim() > 2 else mask
        out: Tensor = F.scaled_dot_product_attention(
            q, keys.transpose(-2, -1), v, mask, dropout_p=dropout, scale=scale
        )
        return out if has_heads else out.squeeze(-3)

    def _mask(self, q: Tensor, mask: Tensor | None, filled: Tensor | None) -> Tensor | None:
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.to(q.dtype)
        if filled is None:
            return mask
        if mask is None and self.filled == -math.inf:
            return ~filled
        value = max(self.filled, torch.finfo(q.dtype).min)
        added = torch.zeros_like(filled, dtype=q.dtype).masked_fill_(filled, value)
        return added if mask is None else mask + added


class FusedAttention:
    """Find a product, a softmax and a product in the code of one module."""

    name = "attention"
    about = "attention written by hand, instead of scaled_dot_product_attention"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for all modules of the kind."""
        found: list[tuple[str, tuple[str, ...]]] = []
        whys: defaultdict[str, list[str]] = defaultdict(list)
        for path in _suspects(subject):
            call = subject.only_call(path)
            if isinstance(subject.modules[path], nn.MultiheadAttention):
                whys[_TORCHS].append(path)
                continue
            if call is None:
                whys["it is called more than once"].append(path)
                continue
            if (watcher := subject.watcher(path)) is not None:
                whys[seen_by_hooks(watcher)].append(path)
                continue
            given = given_tensors(call)
            try:
                _fused(subject.modules[path], given)
            except Exception as error:  # whatever the module's code does with a proxy
                whys[_said(error)].append(path)
            else:
                found.append((path, given))
        for why, paths in whys.items():
            others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            yield f"{named(paths[0])}{others} cannot be rewritten: {why}"
        if not found:
            if not whys:
                yield "no module multiplies, takes the softmax and multiplies again"
            return
        yield Change(
            rule=self.name,
            text=f"use scaled_dot_product_attention in {format_number_of(len(found), 'module')}",
            why="the matrix of attention weights is written and read again; a fused kernel does "
            "not store it",
            where=tuple(path for path, _ in found),
            settings={"given": [list(given) for _, given in found]},
            source="Dao et al., FlashAttention, arXiv 2205.14135",
            snippet=("x = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=…)",),
        )

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module:
        """Put the traced modules, with one operator in them, into the places of the old ones."""
        for path, given in zip(change.where, change.settings["given"], strict=True):
            try:
                new = _fused(model.get_submodule(path), tuple(given))
            except Exception as error:  # whatever the module's code does with a proxy
                raise ValueError(f"{named(path)} cannot be rewritten: {_said(error)}") from error
            model = put(model, path, new)
        return model


# ---------------------------------------------------------------------------- where to look


def _suspects(subject: Subject) -> Iterator[str]:
    """Yield modules whose own operators are product, softmax, product."""
    seen = set()
    for op in subject.trace.ops:
        if not op.name.startswith("aten._softmax.") or not is_forward(op) or op.call < 0:
            continue
        path = subject.path_of(op)
        if isinstance(subject.modules.get(path), nn.Softmax):
            path = subject.trace.calls[subject.trace.calls[op.call].parent].path
        calls = {call.index for call in subject.calls.get(path, ())}
        products = [
            other.index
            for call in calls
            for other in subject.trace.ops[
                subject.trace.calls[call].first_op : subject.trace.calls[call].end_op
            ]
            if other.call in calls and other.name.startswith(("aten.bmm", "aten.baddbmm"))
        ]
        before = any(index < op.index for index in products)
        after = any(index > op.index for index in products)
        source = source_of(subject, op, op.reads[0]) if op.reads else None
        if before and after and source is not None and path not in seen:
            seen.add(path)
            yield path


# ---------------------------------------------------------------------------- the rewrite


def _said(error: Exception) -> str:
    """Return why a module is left alone: our reason, or what its code raised on a proxy."""
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    return text if type(error) is ValueError else f"torch.fx cannot trace it ({text})"


def _fused(module: nn.Module, given: tuple[str, ...]) -> fx.GraphModule:
    """Return a module whose attention is one operator, with the same parameters and names.

    Raises:
        ValueError: there is none that can be replaced.
    """
    code = code_of(module, given)
    children = dict(module.named_modules())
    fused: dict[str, Attention] = {}
    whys: list[str] = []
    for node in list(code.graph.nodes):
        if not _takes_softmax(node, children):
            continue
        try:
            _replace(code.graph, node, children, fused)
        except ValueError as why:
            whys.append(str(why))
    if not fused:
        raise ValueError(whys[0] if whys else "its softmax is taken in a function of its own")
    return module_of(module, code, fused)


def _takes_softmax(node: fx.Node, children: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return type(children.get(str(node.target))) is nn.Softmax
    return node.target in _SOFTMAXES


def _replace(
    graph: fx.Graph, softmax: fx.Node, children: dict[str, nn.Module], fused: dict[str, Attention]
) -> None:
    """Replace what surrounds a softmax by one operator.

    Raises:
        ValueError: that is not attention, or not as the operator does it.
    """
    _refuse_other_softmax(softmax, children)
    scores = _scores(softmax)
    after, dropout = _after(softmax, children)
    name = _NAME if not fused else f"{_NAME}_{len(fused)}"
    with graph.inserting_before(after):
        scale = scores.scale
        if isinstance(scale, tuple):
            scale = graph.call_function(operator.truediv, (1.0, scale[0]))
        given = (*scores.product.args[:2], after.args[1], scores.mask, scale)
        new = graph.call_module(name, given if scores.filled is None else (*given, scores.filled))
    fused[name] = Attention(dropout, scores.value)
    after.replace_all_uses_with(new)
    graph.erase_node(after)


def _refuse_other_softmax(node: fx.Node, children: dict[str, nn.Module]) -> None:
    if node.op == "call_module":
        dim, dtype = getattr(children[str(node.target)], "dim", None), None
    else:
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        dtype = node.kwargs.get("dtype", node.args[2] if len(node.args) > 2 else None)
    if dim != -1:
        raise ValueError(f"its softmax is over dimension {dim}, not -1")
    if dtype is not None:
        raise ValueError(f"its softmax is computed in {str(dtype).removeprefix('torch.')}")


def _after(softmax: fx.Node, children: dict[str, nn.Module]) -> tuple[fx.Node, float]:
    """Return the product that reads the weights, and with which probability they are dropped.

    Raises:
        ValueError: something else reads them.
    """
    weights, dropout = softmax, 0.0
    after = _only_user(weights)
    child = children.get(str(after.target)) if after.op == "call_module" else None
    if isinstance(child, nn.Dropout):
        weights, dropout = after, child.p
    elif after.target in _DROPOUTS:
        passed = zip(("p", "training"), after.args[1:], strict=False)
        given: dict[str, Any] = dict(passed) | dict(after.kwargs)
        flag = given.get("training", True)
        if not (isinstance(flag, fx.Node) and flag.target == IN_TRAINING):
            raise ValueError("its dropout of the weights does not follow the mode of the module")
        weights, dropout = after, float(given.get("p", 0.5))
    after = _only_user(weights)
    if after.target not in _MATMULS or len(after.args) != 2 or after.args[0] is not weights:
        raise ValueError(f"its weights are not multiplied next, but read by {_said_of(after)}")
    return after, dropout


@dataclass(slots=True)
class _Scores:
    """What goes into a softmax: a product, its factor, and what is added or filled in."""

    product: fx.Node
    mask: Any = None
    scale: Any = 1.0
    """A tuple says: divided by."""
    filled: Any = None
    value: float = -math.inf


def _scores(softmax: fx.Node) -> _Scores:
    """Return the product before a softmax, and what is done to it.

    Raises:
        ValueError: that is not what the operator does.
    """
    node: Any = softmax.args[0] if softmax.args else softmax.kwargs.get("input")
    found = _Scores(product=softmax)
    while isinstance(node, fx.Node) and node.target in (*_PLUS, *_FILLS):
        _refuse_other_readers(node)
        if node.target in _PLUS and found.mask is None:
            found.mask = node.args[1]
            if not isinstance(found.mask, fx.Node):
                raise ValueError("a number is added to its scores")
        elif node.target in _FILLS and found.filled is None:
            found.filled, found.value = _filled(node)
        else:
            raise ValueError("its scores have several masks")
        node = node.args[0]
    if isinstance(node, fx.Node) and node.target in (*_TIMES, *_OVER):
        _refuse_other_readers(node)
        factor: Any = node.args[1]
        found.scale = factor if node.target in _TIMES else (factor,)
        if isinstance(factor, fx.Node) and factor.op in ("get_attr", "call_module"):
            raise ValueError("its scores are multiplied by a tensor, not by a number")
        node = node.args[0]
    if not isinstance(node, fx.Node) or node.target not in _MATMULS or len(node.args) != 2:
        raise ValueError(f"its scores come from {_said_of(node)}, not from a product")
    _refuse_other_readers(node)
    found.product = node
    return found


def _filled(node: fx.Node) -> tuple[fx.Node, float]:
    given = dict(zip(("mask", "value"), node.args[1:], strict=False)) | dict(node.kwargs)
    where, value = given.get("mask"), given.get("value")
    if not isinstance(where, fx.Node) or not isinstance(value, (int, float)):
        raise ValueError("its scores are filled with what is not a number")
    if value > _HARDLY_ANY:
        raise ValueError(f"its scores are filled with {value}, which is not a mask")
    return where, float(value)


def _refuse_other_readers(node: fx.Node) -> None:
    if len(node.users) != 1:
        raise ValueError("its scores are read more than once")


def _only_user(node: fx.Node) -> fx.Node:
    if len(node.users) != 1:
        raise ValueError("its weights are read more than once, or returned")
    return next(iter(node.users))


def _said_of(node: Any) -> str:
    if not isinstance(node, fx.Node):
        return "a number"
    return "the end of its forward" if node.op == "output" else node.name
