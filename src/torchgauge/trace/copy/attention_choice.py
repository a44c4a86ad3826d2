"""Which attention a model of transformers runs: chosen on its copy, as the library allows it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import nn

from torchgauge.errors import ScenarioError

_SETTER = "set_attn_implementation"


def choose_attention(root: nn.Module, name: str) -> None:
    """Let a copy of a model run the attention of that name; the model's own settings are kept.

    Raises:
        ScenarioError: the model is not one of transformers, or the library refuses the name.
    """
    heads = list(_heads(root))
    if not heads:
        raise ScenarioError(
            f"attn_implementation={name!r} has no meaning for {type(root).__name__}",
            hint="it chooses the attention of transformers models alone; leave it out",
        )
    _copy_configurations(root)
    for head in heads:
        try:
            getattr(head, _SETTER)(name)
        except (ImportError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ScenarioError(
                f"attn_implementation={name!r} is refused by transformers: {reason}",
                hint="choose another, such as eager or sdpa",
            ) from error
        if head.config._attn_implementation != name:  # it only warns
            raise ScenarioError(
                f"{type(head).__name__} chooses its attention when it is built",
                hint=f"build it with attn_implementation={name!r} "
                f"(--set attn_implementation={name})",
            )


def _heads(module: nn.Module) -> Iterator[Any]:
    """Yield the outermost modules whose attention can be set."""
    if callable(getattr(type(module), _SETTER, None)):
        yield module
        return
    for child in module.children():
        yield from _heads(child)


def _copy_configurations(root: nn.Module) -> None:
    """Give the copy configurations of its own: it shares them with the model."""
    memo: dict[int, Any] = {}
    for module in root.modules():
        for attribute, value in module.__dict__.items():
            if hasattr(value, "_attn_implementation_internal"):
                module.__dict__[attribute] = copy.deepcopy(value, memo)
