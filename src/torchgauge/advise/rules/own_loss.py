"""A cross-entropy in a model's own code, computed with its logits for a part of the rows at a time.

The module is traced by ``torch.fx``. A linear head works on the last axis alone, so what the code
does between head and loss, such as leaving out the last token, is done to the hidden states.
"""

from __future__ import annotations

import operator
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from torchgauge.advise.rules.retraced import code_of, module_of

_CASTS: Final = ("float", "contiguous")
_SHAPES: Final = ("view", "reshape", torch.reshape)
_FLATTENS: Final = ("flatten", torch.flatten)
_ALL: Final = slice(None, None, None)
_PLAIN: Final = {
    "weight": None, "size_average": None, "reduce": None, "reduction": "mean",
    "label_smoothing": 0.0,
}  # fmt: skip
"""Arguments of a cross-entropy that is the plain mean."""
_NAME: Final = "loss_in_parts"


class LossInParts(nn.Module):
    """Mean cross-entropy of a linear head; the backward recomputes the logits of a part."""

    def __init__(self, parts: int, ignore_index: int, *, casts: bool) -> None:
        super().__init__()
        self.parts, self.ignore_index, self.casts = parts, ignore_index, casts

    def forward(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> Tensor:
        """Return the loss of ``[N, H]`` against ``[N]``; ``weight`` is ``[V, H]``."""

        def part(states: Tensor, wanted: Tensor) -> Tensor:
            logits = F.linear(states, weight, bias)
            logits = logits.float() if self.casts else logits
            return F.cross_entropy(
                logits, wanted, ignore_index=self.ignore_index, reduction="sum"
            )  # fmt: skip

        sums = []
        for states, wanted in zip(
            hidden.chunk(self.parts), targets.chunk(self.parts), strict=True
        ):  # fmt: skip
            found = checkpoint(part, states, wanted, use_reentrant=False)
            sums.append(found)
        mean: Tensor = torch.stack(sums).sum() / (targets != self.ignore_index).sum()
        return mean


def with_parts(module: nn.Module, given: tuple[str, ...], parts: int) -> fx.GraphModule:
    """Return a module whose loss takes its logits in parts, with the same parameters and names.

    Raises:
        ValueError: its code has no mean cross-entropy of a linear head.
        Exception: whatever its code does with a proxy.
    """
    code = code_of(module, given)
    graph = code.graph
    children = dict(module.named_modules())
    more: dict[str, nn.Module] = {}
    for node in list(graph.nodes):
        ignored = _ignored_index(node, children)
        if ignored is None:
            continue
        logits, targets = _operands(node)
        steps, head = _back_to_head(logits, children)
        layer = children[str(head.target)]
        casts = any(step.target == "float" for step in steps)
        name = _NAME if not more else f"{_NAME}_{len(more)}"
        more[name] = LossInParts(parts, ignored, casts=casts)
        with graph.inserting_before(node):
            hidden = head.args[0]
            for step in reversed(steps):
                hidden = _on_hidden(graph, step, hidden, layer)
            weight = graph.get_attr(f"{head.target}.weight")
            bias = None if layer.bias is None else graph.get_attr(f"{head.target}.bias")
            new = graph.call_module(name, (hidden, weight, bias, targets))
        node.replace_all_uses_with(new)
        graph.erase_node(node)
    if not more:
        raise ValueError("its code has no mean cross-entropy")
    return module_of(module, code, more)


def _ignored_index(node: fx.Node, children: dict[str, nn.Module]) -> int | None:
    """Return the target that a mean cross-entropy ignores; ``None`` for any other node."""
    if node.op == "call_module":
        child = children.get(str(node.target))
        if type(child) is not nn.CrossEntropyLoss or child.weight is not None:
            return None
        plain = child.reduction == "mean" and not child.label_smoothing
        return child.ignore_index if plain else None
    if node.target is not F.cross_entropy or len(node.args) > 2:
        return None
    is_plain = all(node.kwargs.get(name, value) == value for name, value in _PLAIN.items())
    ignored = node.kwargs.get("ignore_index", -100)
    return ignored if is_plain and isinstance(ignored, int) else None


def _operands(node: fx.Node) -> tuple[Any, Any]:
    """Return the logits and the targets of a cross-entropy."""
    named = [node.kwargs[name] for name in ("input", "target") if name in node.kwargs]
    both: list[Any] = [*node.args, *named]
    return both[0], both[1]


def _back_to_head(node: Any, children: dict[str, nn.Module]) -> tuple[list[fx.Node], fx.Node]:
    """Return what is done to the logits, the last first, and the head that makes them.

    Raises:
        ValueError: something else stands between them.
    """
    steps: list[fx.Node] = []
    while isinstance(node, fx.Node):
        if node.op == "call_module" and type(children.get(str(node.target))) is nn.Linear:
            return steps, node
        known = (*_CASTS, *_SHAPES, *_FLATTENS, operator.getitem)
        if node.op not in ("call_method", "call_function") or node.target not in known:
            break
        steps.append(node)
        node = node.args[0]
    raise ValueError("its loss is not that of a linear head")


def _on_hidden(graph: fx.Graph, step: fx.Node, hidden: Any, head: nn.Module) -> Any:
    """Do to hidden states what was done to logits."""
    if step.target in _CASTS:
        return hidden
    if step.target is operator.getitem:
        index = step.args[1] if isinstance(step.args[1], tuple) else (step.args[1],)
        behind = index[index.index(Ellipsis) + 1 :] if Ellipsis in index else index[2:]
        if not all(isinstance(part, slice) or part is Ellipsis for part in index):
            raise ValueError("it takes single elements of its logits")
        if behind and behind[-1] != _ALL:
            raise ValueError("it leaves out a part of the vocabulary")
        return graph.call_function(operator.getitem, (hidden, step.args[1]))
    sizes = step.args[1] if isinstance(step.args[1], (tuple, list)) else step.args[1:]
    flattens = step.target in _FLATTENS and tuple(sizes) in ((0, 1), (0, -2))
    if not flattens and (step.target in _FLATTENS or len(sizes) != 2):
        raise ValueError("its logits are not flattened to rows")
    return graph.call_method("reshape", (hidden, -1, getattr(head, "in_features")))  # noqa: B009
