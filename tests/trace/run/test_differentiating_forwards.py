"""Forwards that compute gradients, in an inference: run with gradients on, and said so."""

from __future__ import annotations

import gc

import pytest
import torch
from benchmarks.cpu_memory import allocations, highest
from torch import nn
from torch.profiler import ProfilerActivity, profile

import torchgauge as tg
from torchgauge.errors import ModelError

BATCH, WIDTH = 500, 64
PRODUCTS = BATCH * (3 * WIDTH + WIDTH)
"""Multiply-adds of one pass through the network below, forward or backward to its input."""


def network():
    return nn.Sequential(nn.Linear(3, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1))


class Forces(nn.Module):
    """A force field: the energy and its gradient with respect to the positions."""

    def __init__(self):
        super().__init__()
        self.energy = network()

    def forward(self, positions):
        positions.requires_grad_(True)
        energy = self.energy(positions).mean()
        return energy, -torch.autograd.grad(energy, positions)[0]


class BackwardInside(Forces):
    def forward(self, positions):
        positions = positions.clone().requires_grad_(True)
        self.energy(positions).mean().backward()
        return positions.grad


class Hooked(Forces):
    """Registers a hook on an activation, as attribution methods do."""

    def forward(self, positions):
        hidden = self.energy[0](positions)
        hidden.register_hook(lambda gradient: None)
        return self.energy[2](self.energy[1](hidden))


class Retained(Forces):
    def forward(self, positions):
        hidden = self.energy[0](positions)
        hidden.retain_grad()
        output = self.energy[2](self.energy[1](hidden))
        output.mean().backward()
        return output, hidden.grad


class Functional(Forces):
    def forward(self, positions):
        return torch.func.grad(lambda x: self.energy(x).sum())(positions)


MACS = {
    Forces: 2 * PRODUCTS,
    BackwardInside: 3 * PRODUCTS,  # and the gradients of the weights
    Hooked: PRODUCTS,
    Retained: 3 * PRODUCTS - BATCH * 3 * WIDTH,  # the input needs none
    Functional: 2 * PRODUCTS,
}


@pytest.mark.parametrize("kind", MACS, ids=lambda kind: kind.__name__)
def test_what_the_forward_differentiates_is_counted(kind):
    report = tg.analyze(kind(), (BATCH, 3))
    assert report.totals.forward_macs == MACS[kind]
    said = any("ran with gradients on" in text for text in report.assumptions)
    assert said == (kind is not Functional)  # that one needs no gradient mode
    assert report.execution == "simulated"


@pytest.mark.parametrize("kind", [Forces, BackwardInside, Retained])
def test_the_peak_is_that_of_a_call_with_gradients_on(kind):
    model, positions = kind(), torch.rand(BATCH, 3)
    given = sum(tensor.untyped_storage().nbytes() for tensor in (*model.parameters(), positions))
    gc.collect()
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            output = model(positions)
            del output
    finally:
        gc.enable()
    report = tg.analyze(kind(), (BATCH, 3))
    assert report.memory.peak_allocated_bytes == given + highest(allocations(profiler))


def test_the_model_gets_no_gradient():
    model = BackwardInside()
    tg.analyze(model, (BATCH, 3))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_fails_with_gradients_on_as_well_is_the_models_failure():
    class Detached(Forces):
        def forward(self, positions):
            energy = self.energy(positions).detach().sum()
            return torch.autograd.grad(energy, positions)[0]

    with pytest.raises(ModelError, match="does not require grad"):
        tg.analyze(Detached(), (BATCH, 3))


def test_an_inference_that_needs_no_gradient_keeps_none():
    report = tg.analyze(network(), (BATCH, 3))
    assert not any("gradients on" in text for text in report.assumptions)


def test_a_measurement_runs_with_gradients_on_too():
    report = tg.measure(Forces(), (BATCH, 3), max_seconds=0.05)
    assert report.totals.forward_macs == MACS[Forces]
    assert any("ran with gradients on" in text for text in report.assumptions)
