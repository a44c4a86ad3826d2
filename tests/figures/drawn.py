"""Models and reports for the tests of figures, and what an artist of matplotlib shows."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from functools import cache
from io import BytesIO
from typing import Any

import torch
from torch import nn

import torchgauge as tg
from torchgauge.errors import ModelError


class Residual(nn.Module):
    """Two convolutions and what goes past them."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x + self.second(self.act(self.norm(self.first(x)))))


class Network(nn.Module):
    """A stem, three equal residual blocks in a list of their own, and a head."""

    def __init__(self, head: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual() for _ in range(3)))
        self.head = nn.Linear(head, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


@cache
def trained(device: str = "T4") -> tg.Report:
    """A training step of the network, batch 4."""
    return tg.analyze(
        Network(), (3, 16, 16), batch_size=4, mode="training", optimizer="adamw", device=device
    )


@cache
def failed() -> tg.Report:
    """The report of a network whose head does not fit."""
    try:
        tg.analyze(Network(head=9), (3, 16, 16), batch_size=4, device="T4")
    except ModelError as error:
        return error.report
    raise AssertionError("the head fits")


def texts(figure: Any) -> list[str]:
    """Return the texts of an SVG, which are text only where no font has drawn them."""
    stream = BytesIO()
    figure.savefig(stream, format="svg")
    root = ElementTree.fromstring(stream.getvalue())
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def saved(figure: Any, kind: str) -> bytes:
    stream = BytesIO()
    figure.savefig(stream, format=kind)
    return stream.getvalue()
