"""A plain loop: what is predicted at its start holds in its first steps."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from torchgauge.errors import ScenarioError, UsageError
from torchgauge.integrations.loop import tg_loop
from torchgauge.integrations.step.optimizers import optimizer_fields
from torchgauge.integrations.step.prediction import DoesNotFitWarning


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 16 * 16, 10),
    )  # fmt: skip


def run(model: nn.Module, optimizer: Any, total: int, *, fresh: bool = True, **options: Any) -> Any:
    criterion = nn.CrossEntropyLoss()
    torch.manual_seed(1)
    x, y = torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))
    loop = tg_loop(model, x, optimizer=optimizer, loss=lambda o: criterion(o, y), **options)
    with loop as gauge:
        for _ in range(total):
            if fresh:
                x, y = torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))
            criterion(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            gauge.step()
    return gauge


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
@pytest.mark.parametrize("fresh", [True, False])
def test_the_peak_is_what_was_predicted(kind, fresh):
    model = network()
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01)
    gauge = run(model, optimizer, 5, fresh=fresh, steps=2)
    memory = gauge.outcome.figure("peak memory of tensors")
    assert memory.predicted == gauge.report.memory.peak_allocated_bytes
    assert abs(memory.error) < 0.001
    time = gauge.outcome.figure("time of a step")
    assert (time.predicted, time.error) == (None, None)  # this CPU is not calibrated in tests
    assert time.measured > 0
    assert gauge.outcome.steps == 2


def test_it_says_so():
    model = network()
    gauge = run(model, torch.optim.AdamW(model.parameters()), 6, steps=3)
    first, memory, time = str(gauge.outcome).splitlines()
    assert first == "3 steps timed"
    assert memory.startswith("  peak memory of tensors: ")
    assert memory.endswith(" measured (+0.0%)")
    assert time.endswith(" measured, not predicted")


def test_training_is_the_same_with_it():
    weights = []
    for with_it in (True, False):
        model = network()
        optimizer = torch.optim.Adam(model.parameters())
        if with_it:
            run(model, optimizer, 4, steps=1)
        else:
            criterion = nn.CrossEntropyLoss()
            torch.manual_seed(1)
            torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))
            for _ in range(4):
                x, y = torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))
                criterion(model(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
        weights.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*weights)


def test_a_loop_that_ends_early_tells_what_it_has():
    model = network()
    gauge = run(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    assert gauge.outcome.steps == 0
    assert abs(gauge.outcome.figure("peak memory of tensors").error) < 0.001
    assert "not measured" in str(gauge.outcome.figure("time of a step"))


def test_an_error_in_the_loop_leaves_no_mode_behind():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.raises(ZeroDivisionError),
        tg_loop(model, torch.randn(2, 3, 32, 32), optimizer=optimizer) as gauge,
    ):
        gauge.step()
        raise ZeroDivisionError
    assert gauge.outcome is None  # conftest checks that no dispatch mode is left


def test_another_device_is_predicted_and_not_measured():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gauge = run(model, optimizer, 4, device="T4")
    assert gauge.report.scenario.device == "T4"
    assert gauge.outcome is None
    with pytest.warns(DoesNotFitWarning, match="the training step will not fit"):
        tg_loop(
            model, torch.randn(2, 3, 32, 32), optimizer=optimizer, device="T4",
            other_programs_bytes=int(14.74 * 2**30),
        )  # fmt: skip


def test_the_outcome_is_handed_over_once():
    seen: list[Any] = []
    model = network()
    run(model, torch.optim.SGD(model.parameters(), lr=0.1), 8, steps=2, on_outcome=seen.append)
    assert len(seen) == 1


def test_what_makes_no_sense_is_refused():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match="steps=0 measures nothing"):
        tg_loop(model, torch.randn(2, 3, 32, 32), optimizer=optimizer, steps=0)
    with pytest.raises(ScenarioError, match="unknown precision"):
        tg_loop(model, torch.randn(2, 3, 32, 32), optimizer=optimizer, precision="bf17")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: torch.optim.AdamW(p), {"optimizer": "adamw"}),
        (lambda p: torch.optim.SGD(p, lr=1, momentum=0.9, nesterov=True),
         {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9, "nesterov": True}}),
        (lambda p: torch.optim.Adam(p, fused=True),
         {"optimizer": "adam", "optimizer_implementation": "fused"}),
        (lambda p: torch.optim.Adam(p, foreach=False),
         {"optimizer": "adam", "optimizer_implementation": "for-loop"}),
        (lambda p: torch.optim.SparseAdam(p), {"optimizer": "torch.optim.sparse_adam:SparseAdam"}),
    ],
)  # fmt: skip
def test_optimizers_as_a_scenario_names_them(make, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = make([torch.zeros(2, requires_grad=True)])
    assert optimizer_fields(optimizer) == expected
