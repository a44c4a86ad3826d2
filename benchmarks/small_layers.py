"""Many small layers, where what a tool does per layer is all that counts, beside the originals.

Each tool is called as its user calls it: a model with real weights on the CPU, as it was built.
A call of torchinfo computes the model; of torchgauge it simulates it. The drop-ins stand for
torchinfo and torchsummary with their own names, and print what those print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

import torchgauge as tg
from peers import silence
from timing import least_cpu_seconds

WIDTH = 64


class Repeated(nn.Module):
    """One linear layer that is called again and again."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.times = times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what is left after all calls."""
        for _ in range(self.times):
            x = self.layer(x)
        return x


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """CPU seconds of a tool and of torchgauge in its place, and the ratio that is wanted."""

    model: str
    pair: str
    theirs_s: float
    ours_s: float
    limit: float

    @property
    def ratio(self) -> float:
        """Return how many times as long torchgauge takes."""
        return self.ours_s / self.theirs_s


def compared(layers: int, repeats: int) -> Iterator[Compared]:
    """Yield each model with each pair of tools, ``layers`` deep."""
    models: tuple[tuple[str, nn.Module, float], ...] = (
        (f"{layers} linear layers", _chain(layers), 1.5),
        (f"one linear layer called {layers} times", Repeated(layers), 3.0),
    )
    for name, model, limit in models:
        for pair, theirs, ours, wanted in _pairs(model, limit):
            with silence():
                seconds = least_cpu_seconds({"theirs": theirs, "ours": ours}, repeats)
            yield Compared(
                model=name, pair=pair, theirs_s=seconds["theirs"], ours_s=seconds["ours"],
                limit=wanted,
            )  # fmt: skip


def _chain(layers: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers)))


def _pairs(
    model: nn.Module, limit: float
) -> Iterator[tuple[str, Callable[[], object], Callable[[], object], float]]:
    import torchinfo
    import torchsummary

    from torchgauge.compat import torchinfo as our_torchinfo
    from torchgauge.compat import torchsummary as our_torchsummary

    size = (1, WIDTH)
    yield (
        "analyze against torchinfo",
        partial(torchinfo.summary, model, input_size=size, verbose=0),
        partial(tg.analyze, model, input_size=size),
        limit,
    )
    yield (
        "drop-in against torchinfo",
        partial(torchinfo.summary, model, input_size=size),
        partial(our_torchinfo.summary, model, input_size=size),
        4.0,
    )
    yield (
        "drop-in against torchsummary",
        partial(torchsummary.summary, model, (WIDTH,), device="cpu"),
        partial(our_torchsummary.summary, model, (WIDTH,), device="cpu"),
        4.0,
    )
