"""Models to plan for: small, with layers of different sizes so that choices differ in worth."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from torchgauge.facts.choices.checkpointing import Checkpointing, Place
from torchgauge.trace.step.checkpointing import checkpoint_blocks, checkpoint_stretches

SIZE = (16, 64, 32)


class Block(nn.Module):
    """A residual block as in a transformer; ``wide`` decides what it saves."""

    def __init__(self, wide: int, features: int = 32) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.up = nn.Linear(features, wide)
        self.act = nn.GELU()
        self.down = nn.Linear(wide, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.act(self.up(self.norm(x))))


class Stack(nn.Module):
    """Blocks in a ``ModuleList``, which is no module that runs."""

    def __init__(self, *wide: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for width in wide)
        self.head = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Attention(nn.Module):
    """A transformer's layer whose projection has no bias: ``mm`` beside ``addmm``."""

    def __init__(self, features: int = 32, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.qkv = nn.Linear(features, 3 * features, bias=False)
        self.out = nn.Linear(features, features)
        self.mlp = Block(4 * features, features)
        self.dropout = dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, features = x.shape
        heads = self.qkv(self.norm(x)).view(batch, length, 3, 4, features // 4)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0, is_causal=True
        )
        return self.mlp(x + self.out(mixed.transpose(1, 2).reshape(batch, length, features)))


class Residual(nn.Module):
    """A block as in a ResNet, with batch norms and activations in place."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        y += x
        return self.relu(y)


def convolutional(count: int = 6) -> nn.Sequential:
    blocks = [Residual() for _ in range(count)]
    return nn.Sequential(nn.Conv2d(3, 8, 3), *blocks, nn.Dropout(0.1), nn.Flatten())


IMAGES = (8, 3, 32, 32)


def installed(model: nn.Module, *places: str) -> nn.Module:
    """Return a copy of a model with places checkpointed."""
    model = copy.deepcopy(model)
    found = tuple(map(Place.read, places))
    checkpoint_stretches(model, Checkpointing.NON_REENTRANT, found)
    checkpoint_blocks(model, Checkpointing.NON_REENTRANT, found)
    return model
