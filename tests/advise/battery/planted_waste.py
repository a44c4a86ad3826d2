"""Models that take more than they need, and the rule that has to find what."""

from __future__ import annotations

import math

import torch
from planted_faults import TRAINING, Applied, copied_head, planted
from torch import Tensor, nn

ON_T4 = {"device": "T4"}
MAP = {"size": (2, 8, 32, 32)}
WORDS = {"size": (2, 64, 32)}


def conv_block(*between: nn.Module, kind: type[nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(8, 32, 1), *between, kind(32), nn.ReLU())


def deep(norm: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    """Return a model with two pairs, one of them below another module."""
    tail = nn.Sequential(nn.Conv2d(32, 32, 1), norm(32))
    return Applied(lambda m, x: m.tail(m.head(x)).relu(), head=conv_block(kind=norm), tail=tail)


class OwnNorm(nn.BatchNorm2d):
    """A batch norm by another name."""


def linear_pair() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 2))


class HandMade(nn.Module):
    """Attention as it is written in a course."""

    def __init__(self, *, heads: int = 4, dropout: float = 0.0, how: str = "scaled") -> None:
        super().__init__()
        self.heads, self.how = heads, how
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.drop, self.soft = nn.Dropout(dropout), nn.Softmax(dim=-1)
        self.scale = (32 // heads) ** -0.5
        self.register_buffer("mask", torch.full((64, 64), -math.inf).triu(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        if self.how == "query":
            weights = (q * self.scale) @ k.transpose(-2, -1)
        elif self.how == "over":
            weights = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(d // self.heads)
        elif self.how == "over a size":
            weights = torch.matmul(q, k.transpose(-2, -1)) / q.size(-1) ** 0.5
        else:
            weights = q @ k.transpose(-2, -1) * self.scale
        if self.how == "mask":
            weights = weights + self.mask
        weights = self.soft(weights) if self.how == "module" else weights.softmax(dim=-1)
        y = (self.drop(weights) @ v).transpose(1, 2).reshape(b, n, d)
        out: Tensor = self.out(y)
        return out


class CourseBlock(nn.Module):
    """A block of a transformer with that attention, whose mask is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.attention = WithOptionalMask()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.attention(self.norm(x))
        return out


class WithOptionalMask(nn.Module):
    """Single-headed, with a mask that may be there."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        scores = torch.bmm(self.q(x), self.k(x).transpose(1, 2)) / 32**0.5
        if mask is not None:
            scores = scores + mask
        return torch.bmm(torch.softmax(scores, -1), self.v(x))


class KeepsItsBias(WithOptionalMask):
    """Keeps what it has computed from a parameter, as LeViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(64))
        self.kept: dict[str, Tensor] = {}

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        bias = self.kept.setdefault("bias", self.bias * 2.0)
        scores = torch.bmm(self.q(x), self.k(x).transpose(1, 2)) + bias
        return torch.bmm(torch.softmax(scores, -1), self.v(x))


class WithAux(nn.Module):
    """Computes a second head and drops it."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 4, 1)
        self.aux = nn.Sequential(nn.Conv2d(16, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.body(x))
        self.aux(y)
        out: Tensor = self.head(y)
        return out


def spare() -> nn.Module:
    return Applied(lambda m, x: m.used(x), used=nn.Linear(8, 4), spare=nn.Linear(8, 99))


def relus(*more: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(8, 32, 3), *more, nn.Conv2d(32, 8, 3))


def plain_cnn() -> nn.Module:
    convolutions = [nn.Conv2d(8, 64, 1), nn.ReLU(), nn.Conv2d(64, 8, 1)]
    return nn.Sequential(*convolutions, nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True))


def many_layers() -> nn.Module:
    return nn.Sequential(*(part for _ in range(6) for part in (nn.Conv2d(8, 8, 1), nn.ReLU())))


INFERENCE_WASTE = (
    planted("fold-batchnorm", "pair", lambda: conv_block().eval(), "0", **MAP),
    planted("fold-batchnorm", "two pairs", lambda: deep().eval(), "head.0", "tail.0", **MAP),
    planted("fold-batchnorm", "subclass", lambda: deep(OwnNorm), "head.0", "tail.0", **MAP),
    planted("fold-batchnorm", "linear", lambda: linear_pair().eval(), "0", size=(4, 4)),
    planted("never-called", "one", spare, "spare"),
    planted("attention", "scaled after", HandMade, "", **WORDS),
    planted("attention", "scaled before", lambda: HandMade(how="query"), "", **WORDS),
    planted("attention", "divided", lambda: HandMade(how="over"), "", **WORDS),
    planted("attention", "divided by a size", lambda: HandMade(how="over a size"), "", **WORDS),
    planted("attention", "mask", lambda: HandMade(how="mask"), "", **WORDS),
    planted("attention", "module", lambda: HandMade(how="module"), "", **WORDS),
    planted("attention", "no mask given", CourseBlock, "attention", **WORDS),
    planted("dead-output", "second head", WithAux, "aux", **MAP),
    planted("in-place", "cnn", plain_cnn, "1", size=(2, 8, 32, 32)),
    planted(
        "untied-copy", "head", copied_head, "head", options={"dtypes": ["int64"]}, size=(2, 8)
    ),
)  # fmt: skip
TRAINING_WASTE = (
    planted("bias-before-norm", "pair", conv_block, "0", **MAP, options=TRAINING),
    planted("bias-before-norm", "two pairs", deep, "head.0", "tail.0", **MAP, options=TRAINING),
    planted("bias-before-norm", "linear", linear_pair, "0", size=(4, 4), options=TRAINING),
    planted(
        "repeated-activation", "twice", lambda: relus(nn.ReLU(), nn.ReLU()), "2",
        **MAP, options=TRAINING,
    ),
    planted(
        "repeated-activation", "after ReLU6", lambda: relus(nn.ReLU6(), nn.ReLU()), "2",
        **MAP, options=TRAINING | ON_T4,
    ),
    planted("attention", "in training", HandMade, "", **WORDS, options=TRAINING),
    planted(
        "attention", "dropout", lambda: HandMade(dropout=0.1), "", **WORDS,
        options=TRAINING | {"device": "T4"},  # on a CPU dropout takes the plain kernels
    ),
    planted("dead-output", "in training", WithAux, "aux", **MAP, options=TRAINING),
)  # fmt: skip
HOW_IT_RUNS = (
    planted(
        "scenario", "gradients at inference", many_layers, **MAP, options={"grad_enabled": True}
    ),
    planted("scenario", "float32 on tensor cores", plain_cnn, **MAP, options=ON_T4),
)  # fmt: skip
WASTE = INFERENCE_WASTE + TRAINING_WASTE
