"""Models with one change each that makes them smaller, and what a person would write instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from planted_faults import TRAINING, Planted, planted
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """A planted case with the model that the change should lead to, written by hand."""

    case: Planted
    after: Callable[[], nn.Module]
    options: dict[str, Any] | None = None
    """Of the step after the change, where it is another."""

    def __str__(self) -> str:
        return str(self.case)


def rewritten(
    rule: str, about: str, make: Callable[[], nn.Module], *where: str,
    after: Callable[[], nn.Module], **more: Any,
) -> Rewritten:  # fmt: skip
    return Rewritten(case=planted(rule, about, make, *where, **more), after=after)


def conv(given: int, made: int, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(given, made, 3, **{"padding": 1, **more})


def pooled(stride: int = 1, *between: nn.Module, pool: nn.Module | None = None) -> nn.Module:
    middle = [nn.ReLU(), *between]
    return nn.Sequential(
        conv(3, 16, stride=stride), *middle, pool or nn.MaxPool2d(2), conv(16, 8), nn.ReLU()
    )


def row(stride: int = 1, count: int = 3, norm: bool = False) -> nn.Module:
    layers: list[nn.Module] = [conv(3, 16, stride=stride), nn.ReLU()]
    for _ in range(count - 1):
        layers += [conv(16, 16), *([nn.BatchNorm2d(16)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


def wide(channels: int = 64, norm: bool = False) -> nn.Module:
    norms = [nn.BatchNorm2d(channels)] if norm else []
    return nn.Sequential(
        conv(3, channels), *norms, nn.ReLU(), nn.MaxPool2d(2), conv(channels, 8), nn.ReLU()
    )


def dense(groups: int = 1) -> nn.Module:
    return nn.Sequential(conv(64, 64, groups=groups), nn.ReLU(), nn.Conv2d(64, 8, 1))


class Positions(nn.Module):
    """Computes a table of positions from parameters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix = nn.Parameter(torch.randn(16, 8)), nn.Linear(8, 64)

    def forward(self) -> Tensor:
        out: Tensor = self.mix(self.table).relu()
        return out


class Kept(nn.Module):
    """Holds the table instead."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(16, 64))

    def forward(self) -> Tensor:
        return self.get_buffer("table")


class WithPositions(nn.Module):
    """Adds a table to what comes in."""

    def __init__(self, positions: nn.Module) -> None:
        super().__init__()
        self.positions, self.fc = positions, nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x + self.positions())
        return out


def weight_normed(wrap: Callable[[nn.Module], nn.Module] | None = None) -> nn.Module:
    wrap = wrap or (lambda module: module)
    return nn.Sequential(wrap(nn.Linear(64, 64)), nn.ReLU(), wrap(nn.Linear(64, 64)))


class OneLayerIn32(nn.Module):
    """In bfloat16 but for one layer, with casts around it."""

    def __init__(self, *, island: bool = True) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.bfloat16()
        if island:
            self.b.float()
        self.island = island

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        layer = self.b if self.island else self._cast
        out: Tensor = self.c(layer(x.float()).bfloat16())
        return out

    def _cast(self, x: Tensor) -> Tensor:
        """Do what hooks around the layer do."""
        narrow = x.bfloat16()
        out: Tensor = self.b(narrow).float()
        return out


class CastsBefore(nn.Module):
    """Multiplies in float32 on purpose."""

    def __init__(self, *, casts: bool = True, region: bool = False) -> None:
        super().__init__()
        self.q, self.casts, self.region = nn.Linear(64, 64), casts, region

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x)
        if not self.casts:
            return q @ q.transpose(-2, -1)
        if self.region:
            with torch.autocast("cpu", enabled=False):
                return q.float() @ q.float().transpose(-2, -1)
        return q.float() @ q.float().transpose(-2, -1)


class Words(nn.Module):
    """Predicts the next word, with a loss of its own."""

    def __init__(self, how: str = "next", parts: int = 0) -> None:
        super().__init__()
        self.embed, self.fc, self.head = (
            nn.Embedding(999, 32),
            nn.Linear(32, 32),
            nn.Linear(32, 999),
        )
        self.loss, self.how, self.parts = nn.CrossEntropyLoss(), how, parts

    def forward(self, words: Tensor) -> Tensor:
        hidden = torch.relu(self.fc(self.embed(words)))
        if self.parts:
            return self._in_parts(hidden, words)
        logits = self.head(hidden)
        if self.how == "all":
            return F.cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=7)
        if self.how == "module":
            out: Tensor = self.loss(logits.float().view(-1, 999), words.view(-1))
            return out
        logits = logits[..., :-1, :].contiguous() if self.how == "dots" else logits[:, :-1]
        return F.cross_entropy(logits.reshape(-1, logits.size(-1)), words[:, 1:].reshape(-1))

    def _in_parts(self, hidden: Tensor, words: Tensor) -> Tensor:
        if self.how in ("next", "dots"):
            hidden, words = hidden[:, :-1], words[:, 1:]
        rows, targets = hidden.reshape(-1, 32), words.reshape(-1)
        ignored = 7 if self.how == "all" else -100

        def part(states: Tensor, wanted: Tensor) -> Tensor:
            logits = self.head(states)
            return F.cross_entropy(logits, wanted, ignore_index=ignored, reduction="sum")

        sums = []
        for states, wanted in zip(rows.chunk(self.parts), targets.chunk(self.parts), strict=True):
            sums.append(checkpoint(part, states, wanted, use_reentrant=False))
        return torch.stack(sums).sum() / (targets != ignored).sum()


class Logits(nn.Module):
    """Casts what its head returns, which no product needs."""

    def __init__(self, *, casts: bool = True) -> None:
        super().__init__()
        self.head, self.casts = nn.Linear(64, 512), casts

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(x)
        return (y.float() if self.casts else y).log_softmax(-1)


class Scaled(nn.Module):
    """Has a scale and a table that its forward has forgotten."""

    def __init__(self, *, forgotten: bool = True) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 64)
        if forgotten:
            self.scale, self.table = nn.Parameter(torch.ones(64)), nn.Parameter(torch.ones(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x)
        return out


MAP = {"size": (2, 3, 32, 32)}
WORDS = {"size": (4, 16, 64)}
BF16 = {"precision": "bf16"}
AUTOCAST = {"precision": "bf16-autocast"}
SPECTRAL = nn.utils.parametrizations.spectral_norm
PARAMETRIZED = nn.utils.parametrizations.weight_norm
REWRITTEN = (
    rewritten("grouped-convolution", "dense", dense, "0", after=lambda: dense(4),
              size=(2, 64, 16, 16)),
    rewritten("grouped-convolution", "in training", dense, "0", after=lambda: dense(4),
              size=(2, 64, 16, 16), options=TRAINING),
    rewritten("stride-earlier", "max pool", pooled, "0", "2",
              after=lambda: pooled(2, pool=nn.Identity()), **MAP),
    rewritten("stride-earlier", "mean, in training", lambda: pooled(1, pool=nn.AvgPool2d(2)),
              "0", "2", after=lambda: pooled(2, pool=nn.Identity()), **MAP, options=TRAINING),
    rewritten("stride-earlier", "norm between", lambda: pooled(1, nn.BatchNorm2d(16)), "0", "3",
              after=lambda: pooled(2, nn.BatchNorm2d(16), pool=nn.Identity()), **MAP),
    rewritten("no-downsampling", "three", row, "0", "2", "4", after=lambda: row(2), **MAP),
    rewritten("no-downsampling", "four with norms, in training",
              lambda: row(1, 4, norm=True), "0", "2", "5", "8",
              after=lambda: row(2, 4, norm=True), **MAP, options=TRAINING),
    rewritten("wide-early-maps", "64 channels", wide, "0", "3", after=lambda: wide(32), **MAP),
    rewritten("wide-early-maps", "norm, in training", lambda: wide(norm=True), "0", "4", "1",
              after=lambda: wide(32, norm=True), **MAP, options=TRAINING),
    rewritten("constant-folding", "weight norm", lambda: weight_normed(PARAMETRIZED), "0", "2",
              after=weight_normed, **WORDS),
    rewritten("constant-folding", "weight norm by a hook",
              lambda: weight_normed(nn.utils.weight_norm), "0", "2", after=weight_normed, **WORDS),
    rewritten("constant-folding", "spectral norm", lambda: weight_normed(SPECTRAL), "0", "2",
              after=weight_normed, **WORDS),
    rewritten("constant-folding", "table", lambda: WithPositions(Positions()), "positions",
              after=lambda: WithPositions(Kept()), **WORDS),
    rewritten("unused-parameter", "two", Scaled, "scale", "table",
              after=lambda: Scaled(forgotten=False), **WORDS),
    rewritten("unused-parameter", "in a block, in training", lambda: nn.Sequential(Scaled()),
              "0.scale", "0.table", after=lambda: nn.Sequential(Scaled(forgotten=False)),
              **WORDS, options=TRAINING),
    rewritten("fp32-islands", "one layer", OneLayerIn32, "b",
              after=lambda: OneLayerIn32(island=False), **WORDS,
              options={"dtypes": ["bfloat16"]}),
    rewritten("fp32-islands", "casts", CastsBefore, "", after=lambda: CastsBefore(casts=False),
              **WORDS, options=BF16),
    *(
        rewritten("chunked-loss", how, lambda how=how: Words(how), "",
                  after=lambda how=how: Words(how, parts=8), size=(8, 64),
                  options=TRAINING | {"dtypes": ["int64"]})
        for how in ("next", "dots", "all", "module")
    ),
    rewritten("fp32-islands", "logits", Logits, "", after=lambda: Logits(casts=False),
              **WORDS, options=BF16),
    rewritten("fp32-islands", "logits in training", Logits, "",
              after=lambda: Logits(casts=False), **WORDS, options=BF16 | TRAINING),
    rewritten("fp32-islands", "autocast switched off", lambda: CastsBefore(region=True), "",
              after=lambda: CastsBefore(casts=False), **WORDS, options=AUTOCAST),
)  # fmt: skip
