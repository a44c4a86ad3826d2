"""Small models of the kinds that are packaged, and packages of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchgauge.deploy.package import package_model
from torchgauge.deploy.parts import Package, PackageRequest
from torchgauge.facts.scenario import Scenario
from torchgauge.request import Inputs, Request


class Mlp(nn.Module):
    """``[B, 4] → [B, 3]``."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Tagger(nn.Module):
    """``ids [B, L] → {scores [B, L, 5], pooled: ([B, 16],)}`` over 50 words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.norm, self.out = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, ids: torch.Tensor) -> dict[str, object]:
        x = self.norm(self.words(ids))
        return {"scores": self.out(x), "pooled": (x.mean(1),)}


class Recurrent(nn.Module):
    """``ids [B, L] → [B, L, 8]`` and the last states ``[1, B, 8]``: the batch is not first."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(50, 16), nn.LSTM(16, 8, batch_first=True)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, (state, _) = self.lstm(self.words(ids))
        return x, state


class Branching(nn.Module):
    """Cannot be exported: the way it takes depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        if x.sum() > 0:
            return x + 1
        return x - 1


class Noisy(nn.Module):
    """Not the same twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + torch.rand_like(x)


def packaged(model: nn.Module, folder: Path, **options: Any) -> Package:
    """Package a model; ``inputs`` are arguments of ``analyze``, the rest of ``PackageRequest``."""
    given = dict(options.pop("inputs"))
    inputs = Inputs.taken_from(given)
    asked = Request(
        model=model,
        name=type(model).__name__,
        inputs=replace(inputs, keywords={**inputs.keywords, **given}),
        scenario=options.pop("scenario", Scenario()),
    )
    return package_model(folder, PackageRequest(asked=asked, **options))
