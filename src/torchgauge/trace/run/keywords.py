"""The arguments that a model's forward names, by which they are told apart from ours."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from torchgauge.trace.copy.meta_copy import unwrap


def forward_names(model: Any) -> frozenset[str]:
    """Return the arguments that the forward names, of a wrapped model those of the model inside."""
    if isinstance(model, nn.Module):
        model = unwrap(model)
    schema = getattr(getattr(model, "forward", None), "schema", None)
    if schema is not None:  # a scripted one
        return frozenset(argument.name for argument in schema.arguments)
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (AttributeError, TypeError, ValueError):
        return frozenset()
    return frozenset(
        p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    )
