"""The arguments that a model's forward names, by which they are told apart from ours."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from torchgauge.trace.inspect.wrappers import unwrap


def forward_names(model: Any) -> tuple[frozenset[str], bool]:
    """Return the arguments that the forward names, and whether it takes any other.

    Of a wrapped model those of the model inside.
    """
    if isinstance(model, nn.Module):
        model = unwrap(model)
    schema = getattr(getattr(model, "forward", None), "schema", None)
    if schema is not None:  # a scripted one
        return frozenset(argument.name for argument in schema.arguments), False
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (AttributeError, TypeError, ValueError):
        return frozenset(), True
    names = (p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return frozenset(names), any(p.kind is p.VAR_KEYWORD for p in parameters)
