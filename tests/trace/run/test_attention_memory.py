"""Attention on the CPU in training: the kernel copies a gradient that comes in another order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from real_memory import real_peak

_WIDTH, _HEADS = 64, 4


class Attention(nn.Module):
    """Projections, attention, and what is done with its output ``[N, heads, positions, size]``."""

    def __init__(self, after: str, *, keys: int = _HEADS, positions_first: bool = False,
                 **options: Any) -> None:  # fmt: skip
        super().__init__()
        self.after, self.positions_first, self.options = after, positions_first, options
        self.heads, self.size = (_HEADS, keys, keys), _WIDTH // _HEADS
        self.project = nn.ModuleList(nn.Linear(_WIDTH, n * self.size) for n in self.heads)
        self.output = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        order = (1, 2, 0, 3) if self.positions_first else (0, 2, 1, 3)
        query, key, value = (
            project(x).unflatten(-1, (heads, self.size)).permute(order)
            for project, heads in zip(self.project, self.heads, strict=True)
        )
        result = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, **self.options
        )
        if self.after == "heads inside":
            return self.output(result.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]
        if self.after == "positions first":
            return self.output(result.permute(2, 0, 1, 3).flatten(2))  # type: ignore[no-any-return]
        return result.mean(2) if self.after == "mean" else result


class Encoder(nn.Module):
    """Attention as PyTorch's module writes it."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(_WIDTH, _HEADS, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]  # type: ignore[no-any-return]


_X = torch.randn(8, 32, _WIDTH)
MODELS: dict[str, tuple[nn.Module, tuple[torch.Tensor, ...]]] = {
    "heads inside": (Attention("heads inside"), (_X,)),
    "positions first": (Attention("positions first"), (_X,)),
    "input positions first": (Attention("positions first", positions_first=True), (_X,)),
    "raw": (Attention("raw"), (_X,)),
    "mean": (Attention("mean"), (_X,)),
    "grouped": (Attention("positions first", keys=2, enable_gqa=True), (_X,)),
    "causal": (Attention("positions first", is_causal=True), (_X,)),
    "dropout": (Attention("positions first", dropout_p=0.1), (_X,)),
    "mask": (Attention("positions first"), (_X, torch.randn(8, _HEADS, 32, 32))),
    "one sample": (Attention("positions first"), (_X[:1],)),
    "many positions": (Attention("positions first"), (torch.randn(2, 800, _WIDTH),)),
    "module": (Encoder(), (_X,)),
    "module, batch first": (Encoder(batch_first=True), (_X,)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_peak_in_training_is_that_of_a_real_step(kind: str) -> None:
    model, inputs = MODELS[kind]
    scenario = tg.Scenario(mode="training", optimizer="sgd")
    report = tg.analyze(model, input_data=inputs, scenario=scenario)
    assert report.memory is not None
    assert report.memory.peak_allocated_bytes == real_peak(model, *inputs, training=True)
