"""Twelve small networks of different kinds, at sizes that keep a GPU busy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    """Adds its input to what some layers make of it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class Attention(nn.Module):
    """Self-attention ``[B, L, C] → [B, L, C]``, fused or written out."""

    def __init__(self, width: int, *, heads: int, causal: bool = False, fused: bool = True) -> None:
        super().__init__()
        self.joint, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.causal, self.fused = heads, causal, fused

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joint = self.joint(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = joint.permute(2, 0, 3, 1, 4)
        if self.fused:
            y = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        else:
            scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
            y = scores.softmax(-1) @ value
        return self.out(y.transpose(1, 2).flatten(2))


class Gated(nn.Module):
    """The feed-forward of Llama."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, 4 * width), nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class ChannelsLast(nn.Module):
    """Layers that see images as ``[B, H, W, C]``."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Pixels(nn.Module):
    """Attention between the pixels of an image ``[B, C, H, W]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads=width // 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.attention(x.flatten(2).transpose(1, 2))
        return x + y.transpose(1, 2).unflatten(2, x.shape[2:])


class Outputs(nn.Module):
    """What a recurrent layer gives for each step."""

    def __init__(self, recurrent: nn.Module) -> None:
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.recurrent(x)[0]
        return y


class Recommender(nn.Module):
    """Rows of a table, averaged, and a few layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1_000_000, 64)
        self.layers = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 1))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layers(self.table(rows).mean(1))


def _transformer(make: Callable[[], nn.Module], norm: type[nn.Module], width: int) -> nn.Module:
    layers = [
        Residual(norm(width), make()),
        Residual(norm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)),
    ]
    return nn.Sequential(*layers, norm(width))


def _convolution(inputs: int, outputs: int, window: int = 3, **options: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, window, padding=window // 2, bias=False, **options),
        nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


def _perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(1024, 4096), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4096, 4096), nn.ReLU(),
        nn.Linear(4096, 1000),
    )  # fmt: skip


def _vgg() -> nn.Module:
    return nn.Sequential(
        _convolution(3, 64), _convolution(64, 64), nn.MaxPool2d(2), _convolution(64, 128),
        nn.MaxPool2d(2), _convolution(128, 256), nn.AdaptiveAvgPool2d(7), nn.Flatten(),
        nn.Linear(256 * 49, 1000),
    )  # fmt: skip


def _bottleneck(groups: int = 1) -> nn.Module:
    return nn.Sequential(
        _convolution(3, 64, 7, stride=4),
        _convolution(64, 256, 1),
        Residual(_convolution(256, 128, 1), _convolution(128, 128, groups=groups),
                 _convolution(128, 256, 1)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 1000),
    )  # fmt: skip


def _mobile() -> nn.Module:
    return nn.Sequential(
        _convolution(3, 32, stride=2),
        Residual(_convolution(32, 192, 1), _convolution(192, 192, groups=192),
                 nn.Conv2d(192, 32, 1)),
        nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 1000),
    )  # fmt: skip


def _convnext() -> nn.Module:
    block = nn.Sequential(
        nn.Conv2d(96, 96, 7, padding=3, groups=96),
        ChannelsLast(nn.LayerNorm(96), nn.Linear(96, 384), nn.GELU(), nn.Linear(384, 96)),
    )
    return nn.Sequential(nn.Conv2d(3, 96, 4, 4), Residual(block), nn.AdaptiveAvgPool2d(1))


def _unet() -> nn.Module:
    def block(width: int) -> nn.Module:
        return Residual(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))

    inner = nn.Sequential(
        nn.Conv2d(128, 256, 3, 2, 1), block(256), Pixels(256), nn.Upsample(scale_factor=2),
        nn.Conv2d(256, 128, 3, padding=1),
    )  # fmt: skip
    return nn.Sequential(
        nn.Conv2d(4, 128, 3, padding=1), block(128), Residual(inner),
        nn.Conv2d(128, 4, 3, padding=1),
    )  # fmt: skip


def _vit() -> nn.Module:
    return _transformer(lambda: Attention(768, heads=12), nn.LayerNorm, 768)


def _llama() -> nn.Module:
    layer = [
        Residual(nn.RMSNorm(1024), Attention(1024, heads=16, causal=True)),
        Residual(nn.RMSNorm(1024), Gated(1024)),
    ]
    return nn.Sequential(nn.Embedding(32_000, 1024), *layer, nn.Linear(1024, 32_000, bias=False))


def _bert() -> nn.Module:
    return _transformer(lambda: Attention(768, heads=12, fused=False), nn.LayerNorm, 768)


WORKLOADS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "perceptron": (_perceptron, (8192, 1024)),
    "VGG": (_vgg, (64, 3, 224, 224)),
    "ResNet": (_bottleneck, (128, 3, 224, 224)),
    "ResNeXt": (lambda: _bottleneck(32), (128, 3, 224, 224)),
    "MobileNet": (_mobile, (128, 3, 224, 224)),
    "ConvNeXt": (_convnext, (128, 3, 224, 224)),
    "ViT": (_vit, (64, 197, 768)),
    "Llama": (_llama, (8, 2048)),
    "BERT, attention written out": (_bert, (32, 384, 768)),
    "LSTM": (lambda: Outputs(nn.LSTM(512, 512, 2)), (64, 256, 512)),
    "diffusion UNet": (_unet, (16, 4, 64, 64)),
    "recommender": (Recommender, (65_536, 32)),
}
"""Name → how to build the network, and the size of its input with the batch."""
TOKENS = frozenset({"Llama", "recommender"})
"""Those whose input is integers."""
