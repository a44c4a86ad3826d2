"""What names in a source file stand for, looked up without running anything."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import libcst as cst
import torch
from torch import nn
from torch.nn import functional

from torchgauge.advise.patch.source.refusal import NoPatch


def names_of(kind: type) -> Mapping[str, Any]:
    """Return the global names of the file that a class is in."""
    module = sys.modules.get(kind.__module__)
    if module is not None:
        return vars(module)
    found: Mapping[str, Any] = getattr(vars(kind).get("__init__"), "__globals__", {})
    return found


def meant(node: cst.BaseExpression, names: Mapping[str, Any]) -> Any:
    """Return what a dotted name stands for; ``None`` where that is not certain."""
    if isinstance(node, cst.Name):
        return names.get(node.value, getattr(builtins, node.value, None))
    if isinstance(node, cst.Attribute):
        holder = meant(node.value, names)
        if isinstance(holder, (ModuleType, type)):
            return getattr(holder, node.attr.value, None)
    return None


def called(node: cst.BaseExpression, names: Mapping[str, Any]) -> Any:
    """Return what a call calls; ``None`` for what is not a call of a known name."""
    return meant(node.func, names) if isinstance(node, cst.Call) else None


def layer(name: str, names: Mapping[str, Any]) -> cst.BaseExpression:
    """Return how a file can write a class of ``torch.nn``.

    Raises:
        NoPatch: it imports nothing that leads there.
    """
    return _written(getattr(nn, name), name, names)


def function(name: str, names: Mapping[str, Any]) -> cst.BaseExpression:
    """Return how a file can write a function of ``torch.nn.functional``.

    Raises:
        NoPatch: it imports nothing that leads there.
    """
    return _written(getattr(functional, name), name, names, "functional.")


def way_to_nn(names: Mapping[str, Any]) -> str:
    """Return how a file reaches ``torch.nn``: ``"nn"``, ``"torch.nn"``.

    Raises:
        NoPatch: it imports nothing that leads there.
    """
    for value, below in ((nn, ""), (torch, ".nn")):
        for known, held in names.items():
            if held is value and not known.startswith("_"):
                return f"{known}{below}"
    raise NoPatch("the file imports neither torch nor torch.nn")


def _written(
    wanted: Any, name: str, names: Mapping[str, Any], below: str = ""
) -> cst.BaseExpression:
    holders = ((functional, "") if below else (nn, ""), (nn, below), (torch, f"nn.{below}"))
    for value, way in holders:
        for known, held in names.items():
            if held is value and not known.startswith("_"):
                return cst.parse_expression(f"{known}.{way}{name}")
    for known, held in names.items():
        if held is wanted:
            return cst.Name(known)
    raise NoPatch(f"the file imports neither torch nor torch.nn, so {name} has no name in it")
