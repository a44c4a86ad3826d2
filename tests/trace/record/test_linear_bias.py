"""The bias of ``linear`` on inputs that are not contiguous: added in place, as PyTorch adds it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import torchgauge as tg
from real_memory import real_peak


class Before(nn.Module):
    """A linear layer on what a function makes of the input."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function, self.linear = function, nn.Linear(64, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.function(x))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Attention over sequences that come first: its projection sees a transposed input."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 1, kdim=32, vdim=32)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        y = y.transpose(0, 1)
        return self.attention(x.transpose(0, 1), y, y, need_weights=False)[0]  # type: ignore[no-any-return]


class InPython(nn.Module):
    """The same in Python code, which holds the product until the sum is there."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(256, 64)), nn.Parameter(torch.randn(256))
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind != "vmap":
            x = x.transpose(0, 1)
        weight = self.weight.t()
        if self.kind == "operator":
            return x @ weight + self.bias
        if self.kind == "function":
            return torch.add(x @ weight, self.bias)
        if self.kind == "method":
            return (x @ weight).add(self.bias)
        if self.kind == "in place":
            return (x @ weight).add_(self.bias)
        linear = nn.functional.linear
        return torch.vmap(lambda rows: linear(rows.t(), self.weight, self.bias))(x.transpose(1, 2))


MODELS: dict[str, tuple[nn.Module, tuple[torch.Tensor, ...]]] = {
    "transposed": (Before(lambda x: x.transpose(0, 1)), (torch.randn(32, 16, 64),)),
    "sliced": (Before(lambda x: x[:, ::2]), (torch.randn(32, 16, 64),)),
    "sliced features": (Before(lambda x: x[..., :64]), (torch.randn(32, 16, 128),)),
    "permuted": (Before(lambda x: x.permute(0, 2, 3, 1)), (torch.randn(4, 64, 8, 8),)),
    "expanded": (Before(lambda x: x.expand(32, 16, 64)), (torch.randn(1, 16, 64),)),
    "one row": (Before(lambda x: x[::2]), (torch.randn(128),)),
    "contiguous": (Before(lambda x: x), (torch.randn(32, 16, 64),)),
    "attention": (Attention(), (torch.randn(4, 16, 64), torch.randn(4, 16, 32))),
    **{kind: (InPython(kind), (torch.randn(32, 16, 64),))
       for kind in ("operator", "function", "method", "in place", "vmap")},
}  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_the_peak_is_that_of_a_real_run(kind: str) -> None:
    model, inputs = MODELS[kind]
    report = tg.analyze(model, input_data=inputs)
    assert report.memory is not None
    assert report.memory.peak_allocated_bytes == real_peak(model, *inputs)


@pytest.mark.parametrize("kind", ["transposed", "sliced", "attention", "operator", "vmap"])
def test_the_peak_in_training_is_that_of_a_real_step(kind: str) -> None:
    model, inputs = MODELS[kind]
    scenario = tg.Scenario(mode="training", optimizer="sgd")
    report = tg.analyze(model, input_data=inputs, scenario=scenario)
    assert report.memory is not None
    assert report.memory.peak_allocated_bytes == real_peak(model, *inputs, training=True)
