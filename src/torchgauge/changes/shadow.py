"""A copy of a model that may be looked at and run without the model noticing."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import nn

_MOST_BYTES: Final = 2 << 30
"""Of buffers that are copied: more of them hold weights, which nothing writes into."""


def shadow(model: Any) -> Any:
    """Return a copy that has the parameters of a model and buffers of its own.

    Reading a parametrized weight may write into buffers (spectral norm), and a forward may store
    results on the module. Both then happen to the copy. A model that is not a module, or cannot
    be copied, is returned as it is.
    """
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        return model
    kept: list[Any] = list(model.parameters())
    buffers = list(model.buffers())
    if sum(buffer.nbytes for buffer in buffers if not buffer.is_sparse) > _MOST_BYTES:
        kept += buffers
    known = {id(tensor): tensor for tensor in kept} | computed(model)
    try:
        return copy.deepcopy(model, known)
    except Exception:  # whatever the model's own __deepcopy__ raises
        return model


def computed(model: nn.Module) -> dict[int, Any]:
    """Return what attributes hold on a graph, by identity: only detached can it be copied.

    ``torch.nn.utils.weight_norm`` keeps such a weight, and computes it again in each forward.
    """
    return {
        id(value): value.detach()
        for module in model.modules()
        for value in vars(module).values()
        if getattr(value, "grad_fn", None) is not None
    }
