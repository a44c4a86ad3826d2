"""A run leaves no reference cycles per layer: the collector would walk through all that it kept."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial

import pytest
from torch import nn

import torchgauge as tg
from torchgauge.compat import torchsummary

CALLS: dict[str, Callable[[nn.Module], object]] = {
    "inference": partial(tg.analyze, input_size=(1, 8)),
    "training": partial(tg.analyze, input_size=(1, 8), mode="training"),
    "in the place of torchsummary": partial(
        torchsummary.summary_string, input_size=(8,), device="cpu"
    ),
}


def left_by(call: Callable[[nn.Module], object], layers: int) -> int:
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(layers)])
    call(model)  # what is done once per process
    gc.collect()
    gc.disable()
    try:
        call(model)
        return gc.collect()
    finally:
        gc.enable()


@pytest.mark.parametrize("way", CALLS)
def test_what_is_left_in_cycles_does_not_grow_with_the_layers(way: str) -> None:
    assert left_by(CALLS[way], 5) == left_by(CALLS[way], 30)
