"""Small models that need only torch, in place of those of a library that is absent.

Each takes the settings that it knows and passes over the others, so that it can stand in.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two 3×3 convolutions and a skip; depthwise in between if asked."""

    def __init__(self, inside: int, outside: int, stride: int, *, depthwise: bool = False) -> None:
        super().__init__()
        groups = outside if depthwise else 1
        self.inner = nn.Sequential(
            nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(True),
            nn.Conv2d(outside, outside, 3, stride, 1, groups=groups, bias=False),
            nn.BatchNorm2d(outside), nn.ReLU(True),
            nn.Conv2d(outside, outside, 3 if not depthwise else 1,
                      padding=0 if depthwise else 1, bias=False),
            nn.BatchNorm2d(outside),
        )  # fmt: skip
        same = inside == outside and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.inner(x) + self.skip(x))


def _backbone(width: int, depth: int, *, depthwise: bool = False) -> nn.Sequential:
    stages: list[nn.Module] = [nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(True)]
    inside = width
    for stage in range(3):
        outside = width * 2**stage
        blocks = [Residual(inside, outside, 2, depthwise=depthwise)]
        blocks += [Residual(outside, outside, 1, depthwise=depthwise) for _ in range(depth)]
        stages.append(nn.Sequential(*blocks))
        inside = outside
    return nn.Sequential(*stages)


class Classifier(nn.Module):
    """A convolutional backbone, a pooling and a linear layer."""

    def __init__(self, backbone: nn.Module, width: int, classes: int = 1000) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x).mean((2, 3)))


def resnet(width: int = 64, depth: int = 3, **_: Any) -> nn.Module:
    return Classifier(_backbone(width, depth), width * 4)


def depthwise(width: int = 64, depth: int = 3, **_: Any) -> nn.Module:
    return Classifier(_backbone(width, depth, depthwise=True), width * 4)


def vgg(width: int = 64, **_: Any) -> nn.Module:
    layers: list[nn.Module] = []
    inside = 3
    for outside in (width, width * 2, width * 4, width * 8):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2)]
        inside = outside
    return Classifier(nn.Sequential(*layers), width * 8)


class Video(nn.Module):
    """Three 3-D convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(3, 64, 3, (1, 2, 2), 1), nn.BatchNorm3d(64), nn.ReLU(True),
            nn.Conv3d(64, 128, 3, 2, 1), nn.BatchNorm3d(128), nn.ReLU(True),
            nn.Conv3d(128, 256, 3, 2, 1), nn.ReLU(True),
        )  # fmt: skip
        self.head = nn.Linear(256, 400)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean((2, 3, 4)))


def video(**_: Any) -> nn.Module:
    return Video()


class Attention(nn.Module):
    """Self-attention through ``scaled_dot_product_attention``, or over a context."""

    def __init__(self, width: int, heads: int, context: int | None = None, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context or width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        key, value = self.key_value(x if context is None else context).chunk(2, -1)
        q, k, v = (
            t.view(t.shape[0], t.shape[1], self.heads, -1).transpose(1, 2)
            for t in (self.query(x), key, value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.output(mixed.transpose(1, 2).reshape(x.shape))


class Experts(nn.Module):
    """Top-2 routing; tokens are gathered per expert, as many as happen to choose it."""

    def __init__(self, width: int, hidden: int, count: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, count, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width))
            for _ in range(count)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weights, chosen = self.router(flat).softmax(-1).topk(2, -1)
        total = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            rows, slots = torch.where(chosen == number)
            part = expert(flat[rows]) * weights[rows, slots].unsqueeze(-1)
            total = total.index_add(0, rows, part.to(total.dtype))
        return total.view(x.shape)


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mix: nn.Module, *, causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal=causal)
        self.mix = mix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mix(self.norm2(x))


def _feed_forward(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class LanguageModel(nn.Module):
    """Embedding, body, head; with labels it returns its own loss."""

    def __init__(self, vocabulary: int, width: int, body: nn.Module) -> None:
        super().__init__()
        self.embed, self.body = nn.Embedding(vocabulary, width), body
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor | None = None, **_: Any
    ) -> dict[str, torch.Tensor]:
        out = self.body(self.embed(input_ids))
        logits = self.head(out[0] if isinstance(out, tuple) else out)
        if labels is None:
            return {"logits": logits}
        return {
            "loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten()),
            "logits": logits,
        }


def gpt(
    vocab_size: int = 32000, hidden_size: int = 768, num_hidden_layers: int = 12,
    num_attention_heads: int = 12, **_: Any,
) -> nn.Module:  # fmt: skip
    blocks = nn.Sequential(
        *(
            Block(hidden_size, num_attention_heads, _feed_forward(hidden_size), causal=True)
            for _ in range(num_hidden_layers)
        )
    )
    return LanguageModel(vocab_size, hidden_size, blocks)


def moe(
    vocab_size: int = 32000, hidden_size: int = 512, num_hidden_layers: int = 6,
    num_attention_heads: int = 8, experts: int = 8, **_: Any,
) -> nn.Module:  # fmt: skip
    blocks = nn.Sequential(
        *(
            Block(hidden_size, num_attention_heads, Experts(hidden_size, 2 * hidden_size, experts),
                  causal=True)
            for _ in range(num_hidden_layers)
        )
    )  # fmt: skip
    return LanguageModel(vocab_size, hidden_size, blocks)


def lstm(vocab_size: int = 32000, hidden_size: int = 650, **_: Any) -> nn.Module:
    body = nn.LSTM(hidden_size, hidden_size, num_layers=2, batch_first=True)
    return LanguageModel(vocab_size, hidden_size, body)


def gru(vocab_size: int = 32000, hidden_size: int = 650, **_: Any) -> nn.Module:
    body = nn.GRU(hidden_size, hidden_size, num_layers=2, batch_first=True)
    return LanguageModel(vocab_size, hidden_size, body)


class AudioModel(nn.Module):
    """Convolutions over a spectrogram, a decoder over tokens that sees their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.listen = nn.Sequential(nn.Conv1d(80, 384, 3, 2, 1), nn.GELU())
        self.speak = gpt(50000, 384, 4, 6)

    def forward(
        self,
        input_features: torch.Tensor,
        decoder_input_ids: torch.Tensor,
        labels: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        heard = self.listen(input_features).mean((1, 2)).mean()
        out = self.speak(decoder_input_ids, labels)
        return {name: value + heard for name, value in out.items()}


def gpt_audio(**_: Any) -> nn.Module:
    return AudioModel()


class VisionTransformer(nn.Module):
    """Patches, blocks, the mean, a linear layer."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.blocks = nn.Sequential(
            *(Block(width, heads, _feed_forward(width), causal=False) for _ in range(depth))
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def vit(width: int = 384, heads: int = 6, depth: int = 12, **_: Any) -> nn.Module:
    return VisionTransformer(width, heads, depth)


class Unet(nn.Module):
    """Three levels down and up with skips."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        sizes = [width * 2**level for level in range(4)]
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(Residual(a, b, 2) for a, b in itertools.pairwise(sizes))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 2, 2) for a, b in itertools.pairwise(sizes)
        )
        self.merge = nn.ModuleList(Residual(2 * a, a, 1) for a in sizes[:3])
        self.leave = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], 1))
        return self.leave(x)


def unet(width: int = 32, **_: Any) -> nn.Module:
    return Unet(width, 21)


class Detector(nn.Module):
    """A backbone and, at every place, scores and boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _backbone(64, 2)
        self.scores, self.boxes = nn.Conv2d(256, 9 * 21, 3, padding=1), nn.Conv2d(256, 36, 3, 1, 1)

    def forward(self, x: Any, targets: Any = None) -> torch.Tensor:
        images = torch.stack(list(x)) if isinstance(x, (list, tuple)) else x
        found = self.backbone(images)
        scores = self.scores(found).sigmoid().flatten(1)
        return torch.cat([scores, self.boxes(found).flatten(1)], 1)


def detector(**_: Any) -> nn.Module:
    return Detector()


class DiffusionUnet(nn.Module):
    """A U-Net over latents with time and cross-attention, in the manner of Stable Diffusion."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.enter = nn.Conv2d(4, width, 3, padding=1)
        self.down, self.up = (
            nn.Conv2d(width, width, 3, 2, 1),
            nn.ConvTranspose2d(width, width, 2, 2),
        )
        self.norms = nn.ModuleList(nn.GroupNorm(32, width) for _ in range(4))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(4))
        self.attention = Attention(width, width // 64, causal=False)
        self.cross = Attention(width, width // 64, context, causal=False)
        self.leave = nn.Conv2d(2 * width, 4, 3, padding=1)

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        time = self.time(timestep.to(sample.dtype).view(-1, 1))
        x = skip = self.enter(sample) + time[:, :, None, None]
        x = self.down(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + conv(F.silu(norm(x)))
        flat = x.flatten(2).transpose(1, 2)
        flat = flat + self.attention(flat)
        flat = flat + self.cross(flat, encoder_hidden_states)
        x = self.up(flat.transpose(1, 2).reshape(x.shape))
        return self.leave(torch.cat([x, skip], 1))


def diffusion_unet(width: int = 320, **_: Any) -> nn.Module:
    return DiffusionUnet(width, 768)


class GraphConvolution(nn.Module):
    """Two rounds of mean aggregation by ``index_add``."""

    def __init__(self, inside: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inside, hidden), nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        source, target = edge_index
        for layer in (self.first, self.second):
            x = layer(x)
            x = F.relu(x + torch.zeros_like(x).index_add(0, target, x[source]))
        return x


def gcn(**_: Any) -> nn.Module:
    return GraphConvolution(128, 256, 40)


class Fatal(nn.Module):
    """Takes its process with it, as a fault inside a kernel does; for the dry run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        os._exit(3)


def fatal(**_: Any) -> nn.Module:
    return Fatal()
