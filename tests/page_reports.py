"""Reports of small models for the tests of the page, each traced once for all tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

import torchgauge as tg
from torchgauge.errors import ModelError
from torchgauge.facts.report import Report

HOSTILE = "<script>alert(1)</script><b>&amp;"
RIGHT_TO_LEFT = "\u202eعربي"
CHINESE = "卷积层"


class Block(nn.Module):
    """A residual block of two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(self.norm(x))


class Net(nn.Module):
    """A layer, four equal blocks, a head: ``neck=48`` makes the head's neck fail."""

    def __init__(self, neck: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 32)
        self.blocks = nn.Sequential(*[Block(32) for _ in range(4)])
        self.neck = nn.Linear(neck, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.neck(self.blocks(self.embed(x))))


@cache
def trained() -> Report:
    return tg.analyze(Net(), (8, 16), mode="training", optimizer="adamw", device="T4")


@cache
def on_the_cpu() -> Report:
    return tg.analyze(Net(), (8, 16))


@cache
def structure() -> Report:
    return tg.analyze(Net())


@cache
def measured() -> Report:
    return tg.measure(Net(), (8, 16), mode="training", max_seconds=0.5)


@cache
def failed() -> Report:
    """The report of a step that stopped at ``neck``: it comes with the error."""
    try:
        tg.analyze(Net(neck=48), (8, 16), mode="training", device="T4")
    except ModelError as error:
        assert error.report is not None
        return error.report
    raise AssertionError("the neck takes what it gets")


@cache
def hostile() -> Report:
    """Names of markup, of 10,000 characters, from right to left, and in Chinese."""
    model: Any = type(HOSTILE, (nn.Sequential,), {})()
    for name in ("0", "x" * 10_000, RIGHT_TO_LEFT + HOSTILE, CHINESE):
        model.add_module(name, type(HOSTILE, (nn.Linear,), {})(8, 8))
    return tg.analyze(model, (2, 8), mode="training", device="T4", model_name=HOSTILE)


@cache
def large() -> Report:
    """10,000 modules and more, of which few are equal neighbours."""

    def block(number: int) -> nn.Module:
        extra = [nn.Linear(16, 8)] if number % 7 == 0 else []
        return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 16 if extra else 8), *extra)

    groups = [nn.Sequential(*[block(row * column) for row in range(48)]) for column in range(52)]
    return tg.analyze(nn.Sequential(*groups), (4, 8), mode="training", device="T4")
