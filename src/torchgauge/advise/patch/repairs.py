"""Patches for faults: the softmax before a loss that takes logits, and the missing activation."""

from __future__ import annotations

from collections import Counter
from typing import Final

import libcst as cst
import torch
from torch import nn
from torch.nn import functional

from torchgauge.advise.patch.constructors import identity, replace
from torchgauge.advise.patch.source.forwards import Forward, forward_of, forward_of_class
from torchgauge.advise.patch.source.names import function, layer, meant
from torchgauge.advise.patch.source.refusal import NoPatch
from torchgauge.advise.patch.source.sites import Sites
from torchgauge.advise.subject import Subject

_PROBABILITIES: Final = (torch.softmax, functional.softmax, torch.sigmoid, functional.sigmoid)
_ACTIVATIONS: Final = {nn.ReLU: "relu", nn.GELU: "gelu", nn.SiLU: "silu", nn.Tanh: "tanh"}
"""By class: the function that does the same."""


def leave_out_softmax(subject: Subject, sites: Sites, where: tuple[str, ...]) -> None:
    """Return what goes into the softmax.

    Raises:
        NoPatch: the source has no softmax, or several.
    """
    (path,) = where
    if isinstance(subject.modules.get(path), (nn.Softmax, nn.Sigmoid)):
        replace(sites, where, {}, identity)
        return
    forward = forward_of(sites, subject, path)
    found = []
    for call in forward.calls():
        values = [a.value for a in call.args if a.keyword is None and not a.star]
        is_known = any(meant(call.func, forward.names) is kind for kind in _PROBABILITIES)
        logits = values[0] if is_known and values else _called_on(call, forward)
        if logits is not None:
            found.append((call, logits))
    if len(found) != 1:
        raise NoPatch(f"{forward.name} has {len(found)} calls of softmax or sigmoid")
    ((call, logits),) = found
    forward.file.put(call, logits)


def _called_on(call: cst.Call, forward: Forward) -> cst.BaseExpression | None:
    """Return ``x`` of ``x.softmax(…)`` and ``x.sigmoid()``."""
    method = call.func
    if not isinstance(method, cst.Attribute) or method.attr.value not in ("softmax", "sigmoid"):
        return None
    return method.value if meant(method.value, forward.names) is None else None


def add_activation(subject: Subject, sites: Sites, where: tuple[str, ...]) -> None:
    """Put an activation between two linear layers: the one that the model has most of.

    Raises:
        NoPatch: the source does not show where the second gets its input.
    """
    first, second = where
    owner, _, name = second.rpartition(".")
    kind = _usual(subject)
    if name.isdecimal() and isinstance(subject.modules.get(owner), nn.Sequential):
        _between_elements(sites, first, second, kind)
        return
    forward = forward_of_class(sites, type(subject.modules[owner]))
    calls = [call for call in forward.calls() if forward.attribute_of(call.func) == name]
    if len(calls) != 1 or len(calls[0].args) != 1 or calls[0].args[0].keyword is not None:
        raise NoPatch(f"{forward.name} does not call {name} exactly once with one argument")
    (call,) = calls
    given = call.args[0].value
    made = cst.Call(_function(kind, forward), [cst.Arg(given)])
    forward.file.put(given, made)


def register(subject: Subject, sites: Sites, where: tuple[str, ...]) -> None:
    """Let a ``ModuleList`` or a ``ModuleDict`` hold what a plain list or dict holds.

    Raises:
        NoPatch: the list is not made in one plain line.
    """
    (path,) = where
    for name, value in vars(subject.modules[path]).items():
        if name.startswith("_") or not isinstance(value, (list, tuple, dict)):
            continue
        parts = list(value.values() if isinstance(value, dict) else value)
        if len(parts) < 2 or not all(isinstance(part, nn.Module) for part in parts):
            continue
        site = sites.attribute(path, name)
        kind = "ModuleDict" if isinstance(value, dict) else "ModuleList"
        made = cst.Call(layer(kind, site.names), [cst.Arg(site.node)])
        site.file.put(site.node, made)


def _between_elements(sites: Sites, first: str, second: str, kind: type[nn.Module]) -> None:
    """Insert an element before the second one."""
    site = sites.of(second)
    site.call_of(nn.Linear)
    sites.of(first).call_of(nn.Linear)
    finder = _Holder(site.node)
    site.file.tree.visit(finder)
    call, index = finder.found or (None, 0)
    if call is None or index == 0:
        raise NoPatch("its container is not written out")
    new = cst.Arg(cst.Call(layer(kind.__name__, site.names)), comma=call.args[index - 1].comma)

    def edit(node: cst.CSTNode) -> cst.CSTNode:
        assert isinstance(node, cst.Call)
        return node.with_changes(args=[*node.args[:index], new, *node.args[index:]])

    site.file.edit(call, edit)


def _usual(subject: Subject) -> type[nn.Module]:
    counted = Counter(type(module) for module in subject.modules.values())
    known = [(counted[kind], kind) for kind in _ACTIVATIONS if counted[kind]]
    return max(known, key=lambda item: item[0])[1] if known else nn.ReLU


def _function(kind: type[nn.Module], forward: Forward) -> cst.BaseExpression:
    name = _ACTIVATIONS.get(kind, "relu")
    for known, value in forward.names.items():
        if value is torch and name in ("relu", "tanh"):
            return cst.parse_expression(f"{known}.{name}")
    return function(name, forward.names)


class _Holder(cst.CSTVisitor):
    """Finds the call that has an expression among its arguments."""

    def __init__(self, node: cst.BaseExpression) -> None:
        super().__init__()
        self._node = node
        self.found: tuple[cst.Call, int] | None = None

    def visit_Call(self, node: cst.Call) -> None:
        for index, argument in enumerate(node.args):
            if argument.value is self._node:
                self.found = node, index
