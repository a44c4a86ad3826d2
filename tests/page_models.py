"""Small models whose pages show what the views are for: folds, residuals, sharing, failures."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

import torchgauge as tg
from torchgauge.facts.report import Report


class Block(nn.Module):
    """Normalization, two layers and a residual: ``[B, 8] → [B, 8]``."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x + self.down(torch.relu(self.up(self.norm(x))))
        return y


class Blocks(nn.Module):
    """A stem, equal blocks and a head, as a transformer has them; a bare parameter scales."""

    def __init__(self, count: int = 12) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.ones(8))
        self.blocks = nn.ModuleList([Block() for _ in range(count)])
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x) * self.scale
        for block in self.blocks:
            x = block(x)
        y: torch.Tensor = self.head(x)
        return y


class Shared(nn.Module):
    """One layer is called twice, and another has its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
        self.other.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.other(self.first(torch.relu(self.first(x))))
        return y


class Functional(nn.Module):
    """No module inside: everything is a function."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ x.transpose(-1, -2)).sum(-1)


class Failing(nn.Module):
    """Fails in ``head.1``, after everything before it has run."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Blocks(3)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(5, 2), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.body(x))
        return y


def trained(model: nn.Module, *shape: int, device: str = "T4") -> Report:
    """Return the report of a training step on a GPU: it has a time and a roof."""
    size = shape or (2, 8)
    return tg.analyze(model, size, mode="training", optimizer="adamw", device=device)


def failed(model: nn.Module, *shape: int) -> Report:
    """Return the report of a model that fails."""
    try:
        report = tg.analyze(model, shape or (2, 8))
    except tg.TorchGaugeError as error:
        found = getattr(error, "report", None)
        assert isinstance(found, Report)
        return found
    assert report.failure is not None
    return report


def unequal_layers(count: int = 300) -> nn.Sequential:
    """Return a chain of layers of which no two neighbours are equal."""
    widths = [8 + (index * 7) % 13 for index in range(count + 1)]
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))


def ten_thousand_modules() -> nn.Sequential:
    """Return nested lists of layers, 9,941 modules in all."""

    def nested(counts: tuple[int, ...]) -> nn.Module:
        if not counts:
            return nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        return nn.Sequential(*(nested(counts[1:]) for _ in range(counts[0])))

    model = nested((20, 16, 10))
    assert isinstance(model, nn.Sequential)
    return model
