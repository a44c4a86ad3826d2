"""Fewer heads of keys and values than of queries: a smaller KV cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from torchgauge.advise.subject import Subject, like, put
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.units import format_number_of

_SHARED = 4
"""Heads of queries that one head of keys and values serves."""


class SharedKeys:
    """Find attentions of transformers that have keys and values for each head of queries."""

    name = "shared-keys"
    about = "a head of keys and values for each head of queries (grouped-query attention)"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for all attentions."""
        found = tuple(
            path
            for path, module in subject.modules.items()
            if path in subject.calls and _is_multi_head(module)
        )
        if not found:
            yield "no attention of transformers has its own keys and values for each head"
            return
        yield Change(
            rule=self.name,
            text=f"let {_SHARED} heads share keys and values in "
            f"{format_number_of(len(found), 'attention')}",
            why=f"the KV cache and the two projections into it become {_SHARED} times smaller",
            where=found,
            accuracy=Accuracy.RETRAIN,
            cost="T5 XXL lost 0.1 points on average after training for 5 % more steps",
            source="Ainslie et al., GQA, arXiv 2305.13245, table 1",
            snippet=("config.num_key_value_heads = config.num_attention_heads // 4",),
            keeps_state=False,
        )

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module:
        """Take the mean of the heads that are to share, as the paper does."""
        for path in change.where:
            attention: Any = model.get_submodule(path)
            if not _is_multi_head(attention):
                raise ValueError(f"{path} has no keys and values for each head")
            for name in ("k_proj", "v_proj"):
                new = _averaged(getattr(attention, name), attention.head_dim)
                model = put(model, f"{path}.{name}", new)
            attention.num_key_value_groups = _SHARED
        config: Any = getattr(model, "config", None)
        if config is not None:
            config.num_key_value_heads = config.num_attention_heads // _SHARED
        return model


def _is_multi_head(module: nn.Module) -> bool:
    """Return whether a module is an attention as Llama's, without groups."""
    parts = [getattr(module, name, None) for name in ("k_proj", "v_proj")]
    size = getattr(module, "head_dim", None)
    if getattr(module, "num_key_value_groups", None) != 1 or not isinstance(size, int):
        return False
    return all(
        type(part) is nn.Linear and part.out_features % (_SHARED * size) == 0
        and part.out_features > _SHARED * size
        for part in parts
    )  # fmt: skip


def _averaged(layer: nn.Linear, size: int) -> nn.Linear:
    count = layer.out_features // size // _SHARED
    new = like(layer, nn.Linear(layer.in_features, count * size, layer.bias is not None))
    for name, tensor in layer.named_parameters(recurse=False):
        heads = tensor.detach().unflatten(0, (count, _SHARED, size))
        setattr(new, name, nn.Parameter(torch.mean(heads, dim=1).flatten(0, 1)))
    return new
