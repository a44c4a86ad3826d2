"""Layers one after the other: what a layer reads, back to the convolution that made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from torchgauge.advise.flow import call_before
from torchgauge.advise.subject import Subject

POOLS: Final = (_MaxPoolNd, _AvgPoolNd)
BY_CHANNEL: Final = (
    _BatchNorm, _DropoutNd, nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU,
    nn.SiLU, nn.Hardswish, nn.Tanh, nn.Sigmoid,
)  # fmt: skip
"""Layers that do not mix channels or pixels."""


@dataclass(frozen=True, slots=True)
class Link:
    """A convolution, and what lies between it and a later layer, the nearest first."""

    path: str
    layer: nn.Conv2d
    between: tuple[str, ...]


def convolution_before(subject: Subject, path: str, through: tuple[type, ...]) -> Link | None:
    """Return the convolution whose output only this layer reads, through layers of these kinds.

    ``None`` where something else comes before, reads it too, or a layer is called more than once.
    """
    between: list[str] = []
    while (call := subject.only_call(path)) is not None:
        found = call_before(subject, call, through_dropout=False)
        if found is None:
            return None
        path, module = found
        if subject.only_call(path) is None:
            return None
        if isinstance(module, nn.Conv2d):
            return Link(path, module, tuple(between))
        if not isinstance(module, through):
            return None
        between.append(path)
    return None
