"""A live optimizer of torch → the fields of a scenario that describe it."""

from __future__ import annotations

from typing import Any

from torchgauge.facts.scenario import OPTIMIZERS

_FLAGS = ("foreach", "fused")
_LEFT_OUT = (*_FLAGS, "lr", "params", "maximize", "capturable", "differentiable",
             "decoupled_weight_decay", "initial_lr")  # fmt: skip
"""Of a group: what changes no byte of a step, or has a field of its own."""
_WRAPPED = ("optimizer", "_optimizer")
"""Attributes under which wrappers (Accelerate's, Lightning's) keep the optimizer."""
_8BIT = {"AdamW8bit": "adamw-8bit", "Adam8bit": "adamw-8bit"}


def optimizer_fields(optimizer: Any) -> dict[str, Any]:
    """Return ``optimizer``, ``optimizer_options`` and ``optimizer_implementation`` of a scenario.

    Options are those of the first group: the memory of a step hangs on whether they are there, and
    hardly ever differs between groups.

    >>> import torch
    >>> optimizer_fields(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1, momentum=0.9))
    {'optimizer': 'sgd', 'optimizer_options': {'momentum': 0.9}}
    """
    inner = unwrapped(optimizer)
    kind = type(inner)
    name = _8BIT.get(kind.__name__, kind.__name__.lower())
    if name not in OPTIMIZERS:
        return {"optimizer": f"{kind.__module__}:{kind.__qualname__}"}
    found: dict[str, Any] = {"optimizer": name}
    group = inner.param_groups[0]
    if name != "adamw-8bit" and (options := _options(inner, kind)):
        found["optimizer_options"] = options
    for flag in _FLAGS:
        if group.get(flag):
            found["optimizer_implementation"] = flag
    if group.get("foreach") is False and not group.get("fused"):
        found["optimizer_implementation"] = "for-loop"
    return found


def unwrapped(optimizer: Any) -> Any:
    """Return the optimizer inside of a wrapper."""
    for name in _WRAPPED:
        inner = getattr(optimizer, name, None)
        if inner is not None and hasattr(inner, "param_groups"):
            return unwrapped(inner)
    return optimizer


def _options(optimizer: Any, kind: type) -> dict[str, Any]:
    """Return the options of the first group that differ from the class's own defaults."""
    import torch

    probe = torch.zeros(1, requires_grad=True)
    try:
        usual = kind([probe]).param_groups[0]
    except TypeError:  # its learning rate has no default
        usual = kind([probe], lr=0.1).param_groups[0]
    return {
        name: value
        for name, value in optimizer.param_groups[0].items()
        if name not in _LEFT_OUT
        and isinstance(value, (bool, int, float, str, tuple))
        and usual.get(name) != value
    }
