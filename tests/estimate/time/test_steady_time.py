"""A predicted step is one of many: what only the first one does is not in its time."""

from __future__ import annotations

import pytest
from torch import nn

import torchgauge as tg
from asked import run_model
from torchgauge.reports import prediction_of


def kernels(optimizer: str, **scenario: object) -> list[str]:
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(4)))
    found = run_model(
        model, (8, 64),
        scenario=tg.Scenario(mode="training", optimizer=optimizer, device="RTX 3090", **scenario),
    )  # fmt: skip
    prediction = prediction_of(found.outcome.trace, found.target)
    assert prediction is not None
    return [kernel.name for kernel in prediction.kernels if kernel.phase == "optimizer"]


@pytest.mark.parametrize("compiled", [False, True])
def test_the_states_of_an_optimizer_are_there_already(compiled):
    names = kernels("adamw", compiled=compiled)
    assert "aten.zeros_like.default" not in names
    assert any("foreach" in name for name in names)


def test_in_the_first_step_they_are_made():
    assert kernels("adamw", first_step=True).count("aten.zeros_like.default") == 2 * 8


@pytest.mark.parametrize("compiled", [False, True])
def test_counters_in_main_memory_launch_nothing(compiled):
    names = kernels("adamw", compiled=compiled)
    assert "aten._local_scalar_dense.default" not in names


def test_a_momentum_that_begins_as_a_copy_stands_for_its_update():
    names = kernels("sgd-momentum")
    assert any("clone" in name or "copy" in name for name in names)
