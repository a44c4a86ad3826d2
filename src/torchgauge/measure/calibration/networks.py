"""Networks that are timed whole: for what a step takes besides its operators, and for the error.

They are made of what most networks are made of; none of them is a published model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network, and the size of its input, batch included."""

    name: str
    make: Callable[[], nn.Module]
    size: tuple[int, ...]


class Views(nn.Module):
    """Operators that move nothing, and nothing else."""

    COUNT: Final = 100

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input, ``[2, 8, 4, 4]``."""
        for _ in range(self.COUNT // 2):
            x = x.view(2, 128).view(2, 8, 4, 4)
        return x


def modules() -> nn.Module:
    """Return modules that do nothing: 100, and the one around them."""
    return nn.Sequential(*(nn.Identity() for _ in range(100)))


def small() -> nn.Module:
    """Return a network whose tensors, ``[2, 8, 4, 4]``, are so small that only overheads count."""
    kinds: tuple[Callable[[], nn.Module], ...] = (
        nn.ReLU,
        nn.GELU,
        lambda: nn.LayerNorm(4),
        lambda: nn.Linear(4, 4),
        nn.Sigmoid,
        lambda: nn.BatchNorm2d(8),
        nn.SiLU,
        nn.Tanh,
    )
    return nn.Sequential(*(kind() for _ in range(8) for kind in kinds))


def _residual() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU()]
    for inputs, outputs, stride in ((32, 64, 1), (64, 128, 2), (128, 256, 2)):
        layers += [_Residual(inputs, outputs, stride), _Residual(outputs, outputs, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 100))


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.skip(x))


def _separable() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 3, 2, 1)]
    width = 24
    for outputs, stride in ((48, 2), (48, 1), (96, 2), (96, 1), (192, 2), (192, 1)):
        layers += [
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width), nn.SiLU(),
            nn.Conv2d(4 * width, 4 * width, 3, stride, 1, groups=4 * width, bias=False),
            nn.BatchNorm2d(4 * width), nn.SiLU(),
            nn.Conv2d(4 * width, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        ]  # fmt: skip
        width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 100))


def _plain() -> nn.Module:
    layers: list[nn.Module] = []
    width = 3
    for outputs in (32, 64, 128, 256):
        layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        width = outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 64, 512), nn.ReLU(),
                         nn.Linear(512, 100))  # fmt: skip


class _Block(nn.Module):
    """A block of a transformer, ``[n, l, width]``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, length, width = x.shape
        split = self.qkv(self.first(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        result: torch.Tensor = x + self.mlp(self.second(x))
        return result


def _perceptron() -> nn.Module:
    widths = (784, 2048, 2048, 1024, 10)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


NETWORKS: Final = (
    Network(name="residual", make=_residual, size=(2, 3, 128, 128)),
    Network(name="separable", make=_separable, size=(1, 3, 192, 192)),
    Network(name="plain", make=_plain, size=(4, 3, 128, 128)),
    Network(
        name="encoder",
        make=lambda: nn.Sequential(*(_Block(384, 6) for _ in range(4))),
        size=(1, 128, 384),
    ),
    Network(name="perceptron", make=_perceptron, size=(64, 784)),
)
