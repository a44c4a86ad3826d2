"""Attention written by hand: products and a softmax that one operator can do.

The module is traced by ``torch.fx``; its children stay as they are. What cannot be traced, or
returns its weights, is left alone.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from torchgauge.advise.flow import is_forward, source_of
from torchgauge.advise.rules.retraced import given_tensors, graph_of, module_of
from torchgauge.advise.subject import Subject, put
from torchgauge.changes.change import Change
from torchgauge.units import format_number_of

_MATMULS: Final = (torch.matmul, torch.bmm, operator.matmul, "matmul", "bmm")
_SOFTMAXES: Final = (torch.softmax, F.softmax, "softmax")
_TIMES: Final = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_OVER: Final = (operator.truediv, operator.itruediv, torch.div, "div", "div_")
_PLUS: Final = (operator.add, operator.iadd, torch.add, "add", "add_")
_NAME: Final = "fused_attention"


class Attention(nn.Module):
    """Attention as one operator; ``dropout`` acts in training alone."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(
        self, q: Tensor, keys: Tensor, v: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        """Return softmax(scale · q · keys + mask) · v; ``keys`` come transposed."""
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.to(q.dtype)
        dropout = self.dropout if self.training else 0.0
        has_heads = q.dim() > 3
        if not has_heads:  # the fast kernels take four dimensions only
            q, keys, v = q.unsqueeze(-3), keys.unsqueeze(-3), v.unsqueeze(-3)
            mask = mask.unsqueeze(-3) if mask is not None and mask.dim() > 2 else mask
        out: Tensor = F.scaled_dot_product_attention(
            q, keys.transpose(-2, -1), v, mask, dropout_p=dropout, scale=scale
        )
        return out if has_heads else out.squeeze(-3)


class FusedAttention:
    """Find a product, a softmax and a product in the code of one module."""

    name = "attention"
    about = "attention written by hand, instead of scaled_dot_product_attention"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for all modules of the kind."""
        found, whys = [], []
        for path in _suspects(subject):
            call = subject.only_call(path)
            why = f"{path} is called more than once" if call is None else ""
            if call is not None:
                given = given_tensors(call)
                try:
                    _fused(subject.modules[path], given)
                except Exception as error:  # whatever the module's code does with a proxy
                    said = next(iter(str(error).splitlines()), "")
                    why = f"{path} cannot be traced: {said}"
                else:
                    found.append((path, given))
            if why:
                whys.append(why)
        yield from whys[:3]
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
            cost="what the forward does in the other mode, or keeps on the module, is left out",
            source="Dao et al., FlashAttention, arXiv 2205.14135",
            snippet=("x = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=…)",),
        )

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module:
        """Put the traced modules, with one operator in them, into the places of the old ones."""
        for path, given in zip(change.where, change.settings["given"], strict=True):
            try:
                new = _fused(model.get_submodule(path), tuple(given))
            except Exception as error:  # whatever the module's code does with a proxy
                raise ValueError(f"{path} cannot be traced") from error
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


def _fused(module: nn.Module, given: tuple[str, ...]) -> fx.GraphModule:
    """Return a module whose attention is one operator, with the same parameters and names.

    Raises:
        ValueError: there is none that can be replaced.
    """
    graph = graph_of(module, given)
    children = dict(module.named_modules())
    fused: dict[str, Attention] = {}
    for node in list(graph.nodes):
        if _is_softmax(node, children):
            _replace(graph, node, children, fused)
    if not fused:
        raise ValueError("no softmax between two products")
    return module_of(module, graph, fused)


def _is_softmax(node: fx.Node, children: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        child = children.get(str(node.target))
        return type(child) is nn.Softmax and child.dim == -1
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    dtype = node.kwargs.get("dtype", node.args[2] if len(node.args) > 2 else None)
    return bool(node.target in _SOFTMAXES and dim == -1 and dtype is None)


def _replace(
    graph: fx.Graph, softmax: fx.Node, children: dict[str, nn.Module], fused: dict[str, Attention]
) -> None:
    """Replace what surrounds a softmax, where that is attention."""
    scores, mask, scale = _scores(softmax)
    after, dropout = _only_user(softmax), 0.0
    if after is not None and after.op == "call_module":
        child = children.get(str(after.target))
        if not isinstance(child, nn.Dropout):
            return
        after, dropout = _only_user(after), child.p
    if scores is None or after is None or after.target not in _MATMULS:
        return
    if after.args[0] is not softmax and _only_user(softmax) is not after.args[0]:
        return
    name = _NAME if not fused else f"{_NAME}_{len(fused)}"
    fused[name] = Attention(dropout)
    with graph.inserting_before(after):
        if isinstance(scale, tuple):
            scale = graph.call_function(operator.truediv, (1.0, scale[0]))
        new = graph.call_module(name, (*scores.args[:2], after.args[1], mask, scale))
    after.replace_all_uses_with(new)
    graph.erase_node(after)


def _scores(softmax: fx.Node) -> tuple[fx.Node | None, Any, Any]:
    """Return the product before a softmax, what is added to it and what it is multiplied by.

    A tuple for the factor says: divided by.
    """
    node: Any = softmax.args[0]
    mask: Any = None
    scale: Any = 1.0
    if isinstance(node, fx.Node) and node.target in _PLUS and len(node.users) == 1:
        node, mask = node.args[0], node.args[1]
        if not isinstance(mask, fx.Node):
            return None, None, 1.0
    if isinstance(node, fx.Node) and node.target in (*_TIMES, *_OVER) and len(node.users) == 1:
        factor: Any = node.args[1]
        scale = factor if node.target in _TIMES else (factor,)
        if isinstance(factor, fx.Node) and factor.op in ("get_attr", "call_module"):
            return None, None, 1.0  # a tensor is no number
        node = node.args[0]
    if not isinstance(node, fx.Node) or node.target not in _MATMULS or len(node.users) != 1:
        return None, None, 1.0
    return node, mask, scale


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None
