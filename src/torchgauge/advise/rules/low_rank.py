"""A large linear layer as the product of two narrow ones, made from its weight by an SVD."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from torchgauge.advise.subject import Subject, like, put
from torchgauge.changes.change import Change, needs_values
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.units import format_number_of

_LEAST_SHARE = 0.02
"""Of the model's parameters, in a layer."""
_MOST_WORK = 4e10
"""Elements × rank: up to here the decomposition takes seconds."""
_KEPT = 0.5
"""Of a layer's parameters, in the two that take its place."""
_ALIGNED = 8


class LowRank:
    """Find linear layers that hold much of the parameters, and halve them."""

    name = "low-rank"
    about = "large linear layers, instead of two narrow ones with half of the parameters"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for all layers that are large enough."""
        found, tied = [], _shared(subject.model)
        for path, layer in subject.of_type(nn.Linear):
            if layer.weight.numel() < _LEAST_SHARE * subject.report.totals.params:
                continue
            rank = _rank(layer)
            if path not in subject.calls or id(layer.weight) in tied or rank < _ALIGNED:
                continue
            if layer.weight.numel() * rank > _MOST_WORK:
                yield f"{path} is too large to decompose in seconds"
                continue
            found.append((path, rank))
        if not found:
            yield "no linear layer with a weight of its own holds 2 % of the parameters"
            return
        (path, rank), *_ = found
        layer = dict(subject.of_type(nn.Linear))[path]
        yield Change(
            rule=self.name,
            text=f"replace {format_number_of(len(found), 'linear layer')} by two narrow ones each",
            why=f"{layer.in_features} × {layer.out_features} weights of {path}, through rank {rank}"
            f" half as many",
            where=tuple(path for path, _ in found),
            settings={"ranks": [rank for _, rank in found]},
            accuracy=Accuracy.RETRAIN,
            cost="what the weights hold beyond that rank is lost",
            source="Denton et al., Exploiting Linear Structure, arXiv 1404.0736, section 3",
            snippet=(
                f"nn.Sequential(nn.Linear({layer.in_features}, {rank}, bias=False), "
                f"nn.Linear({rank}, {layer.out_features}))",
            ),
            keeps_state=False,
        )

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module:
        """Put the two layers into the place of each."""
        for path, rank in zip(change.where, change.settings["ranks"], strict=True):
            layer = model.get_submodule(path)
            if not isinstance(layer, nn.Linear):
                raise ValueError(f"{path} is not a linear layer")
            model = put(model, path, _decomposed(layer, rank, needs_values(change)))
        return model


def _rank(layer: nn.Linear) -> int:
    """Return the largest multiple of eight with which half of the parameters are enough."""
    rank = _KEPT * layer.weight.numel() / (layer.in_features + layer.out_features)
    return int(rank) // _ALIGNED * _ALIGNED


def _shared(model: nn.Module) -> set[int]:
    """Return the tensors that several modules hold: one cannot be replaced alone."""
    seen: set[int] = set()
    twice: set[int] = set()
    for module in model.modules():
        for tensor in module.parameters(recurse=False):
            (twice if id(tensor) in seen else seen).add(id(tensor))
    return twice


def _decomposed(layer: nn.Linear, rank: int, values: bool) -> nn.Sequential:
    first = like(layer, nn.Linear(layer.in_features, rank, bias=False))
    second = like(layer, nn.Linear(rank, layer.out_features, bias=layer.bias is not None))
    weight = layer.weight.detach()
    if values and not weight.is_meta:
        left, scales, right = torch.svd_lowrank(weight.float(), q=rank, niter=1)
        roots = scales.sqrt()
        first.weight = nn.Parameter((right * roots).T.contiguous().to(weight.dtype))
        second.weight = nn.Parameter((left * roots).contiguous().to(weight.dtype))
    if layer.bias is not None:
        second.bias = nn.Parameter(layer.bias.detach().clone())
    return nn.Sequential(first, second)
