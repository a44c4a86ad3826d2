"""What a step on the CPU finds of the steps before it, against the profiler's memory events."""

from __future__ import annotations

import gc

import pytest
import torch
from benchmarks.cpu_memory import allocations, highest
from torch import nn
from torch.profiler import ProfilerActivity, profile

import torchgauge as tg


class Wide(nn.Module):
    """Most is alive in the middle of the forward, where old gradients and states add to it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(300, 300), nn.Linear(300, 10)

    def forward(self, x):
        hidden = self.first(x)
        with torch.no_grad():
            scale = torch.cat([hidden] * 60)[:1].clone()
        return self.second(hidden + scale)


def real_peak(scenario, *, steps):
    """Most bytes alive in a loop of that many steps, the model and its batch included.

    The profiler sees a block freed only where it saw it made, so all steps run under it.
    """
    torch.manual_seed(0)
    model, batch = Wide(), torch.rand(40, 300)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, foreach=False)

    def step():
        if scenario.zero_grad == "before-forward":
            optimizer.zero_grad()
        output = model(batch)
        if scenario.zero_grad == "before-backward":
            optimizer.zero_grad()
        output.mean().backward()
        optimizer.step()

    gc.collect()
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            for _ in range(steps):
                step()
    finally:
        gc.enable()
    kept = sum(tensor.untyped_storage().nbytes() for tensor in (*model.parameters(), batch))
    return kept + highest(allocations(profiler))


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({}, 3),
        ({"zero_grad": "before-backward"}, 3),
        ({"first_step": True}, 1),
        ({"first_step": True, "zero_grad": "before-backward"}, 1),
    ],
    ids=["a later step", "gradients stay through the forward", "the first", "the first, both"],
)
def test_the_peak_is_that_of_a_real_step(fields, steps):
    scenario = tg.Scenario(mode="training", optimizer="sgd-momentum", loss="mean", **fields)
    memory = tg.analyze(Wide(), (40, 300), scenario=scenario).memory
    assert memory.peak_allocated_bytes == real_peak(scenario, steps=steps)
    assert memory.peak_phase == "forward"
    assert sum(memory.at_peak.values()) == memory.peak_allocated_bytes
    assert max(point.live_bytes for point in memory.timeline) == memory.peak_allocated_bytes


def test_what_is_carried_over_is_part_of_the_peak():
    def at_peak(**fields):
        scenario = tg.Scenario(mode="training", optimizer="sgd-momentum", loss="mean", **fields)
        return tg.analyze(Wide(), (40, 300), scenario=scenario).memory.at_peak

    weights = 4 * (300 * 300 + 300 + 300 * 10 + 10)
    assert "gradient" not in at_peak()
    assert at_peak(zero_grad="before-backward")["gradient"] == weights
    assert at_peak()["optimizer_state"] == weights
    assert "optimizer_state" not in at_peak(first_step=True)
