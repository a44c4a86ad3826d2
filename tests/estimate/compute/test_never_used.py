"""Which modules are told to be never called: the topmost ones, with all that is below them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import torchgauge as tg


class First(nn.Module):
    """Calls the first of its layers, or the first of the first."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first: torch.Tensor = self.layers[0](x)
        return first


def linear(count: int) -> list[nn.Module]:
    return [nn.Linear(4, 4) for _ in range(count)]


def twice() -> nn.Module:
    layer = nn.Linear(4, 4)
    return First(nn.Linear(4, 4), layer, nn.Sequential(layer, nn.Linear(4, 4)))


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "all used": (lambda: First(*linear(1)), {}),
    "two": (lambda: First(*linear(3)), {"layers.1": 20, "layers.2": 20}),
    "a block": (lambda: First(*linear(1), nn.Sequential(*linear(5))), {"layers.1": 100}),
    "blocks in a block": (
        lambda: First(*linear(1), nn.Sequential(nn.Sequential(*linear(2)), *linear(1))),
        {"layers.1": 60},
    ),
    "part of a block": (lambda: First(First(*linear(3))), {"layers.0.layers.1": 20,
                                                           "layers.0.layers.2": 20}),
    "like a name that is longer": (
        lambda: First(*linear(12)), {f"layers.{place}": 20 for place in range(1, 12)},
    ),
    "without parameters": (lambda: First(*linear(1), nn.ReLU()), {}),
    "shared": (twice, {"layers.1": 20, "layers.2": 20}),
    "many experts": (
        lambda: First(*linear(1500)), {f"layers.{place}": 20 for place in range(1, 1500)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_topmost_are_told_with_their_parameters(name: str) -> None:
    build, expected = CASES[name]
    report = tg.analyze(build(), (2, 4))
    found = {entry.op: entry.why for entry in report.not_counted}
    assert found.keys() == expected.keys()
    for path, params in expected.items():
        assert f"was never called; its {params:,} parameters are counted" in found[path]
