"""Two traces side by side: every kind of difference is found, placed and ordered."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

import torchgauge as tg
from torchgauge.compare.streams import DifferenceKind, compare_traces
from torchgauge.facts.trace import Execution, Trace
from torchgauge.request import Inputs
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.run.session import Session


def trace(model: nn.Module, execution: Execution = Execution.SIMULATED) -> Trace:
    plan = plan_inputs(model, Inputs(size=(2, 4)))
    assert plan is not None
    scenario = tg.Scenario(mode="training", optimizer="adamw")
    request = RunPlan(model=model, plan=plan, scenario=scenario, model_name="model")
    outcome = Session(request, execution).run()
    assert outcome.error is None
    return outcome.trace


def mlp(activation: nn.Module | None = None, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), activation or nn.ReLU(), nn.Linear(width, 3))


def test_a_trace_equals_itself_and_its_repetition() -> None:
    first, second = trace(mlp()), trace(mlp())
    for comparison in (compare_traces(first, first), compare_traces(first, second)):
        assert comparison.identical and comparison.share_equal == 1.0
        assert comparison.equal_ops == len(first.ops)


def test_a_real_step_is_the_simulated_one() -> None:
    model = mlp()
    trace(model)  # the first run may import parts of torch, which keeps frames alive
    comparison = compare_traces(trace(model, Execution.REAL), trace(model))
    assert comparison.identical, comparison.differences[:3]


def test_another_kernel_is_named_with_its_module() -> None:
    comparison = compare_traces(trace(mlp()), trace(mlp(nn.Tanh())))
    kernels = [d for d in comparison.differences if d.kind is DifferenceKind.KERNEL]
    assert ("aten.relu.default", "aten.tanh.default", "1") in {
        (d.real, d.simulated, d.path) for d in kernels
    }
    assert 0 < comparison.share_equal < 1


def test_missing_and_extra_ops_come_first() -> None:
    longer = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    shorter = compare_traces(trace(longer), trace(mlp()))
    assert shorter.differences[0].kind is DifferenceKind.MISSING
    assert any(d.name == "aten.bernoulli_.float" for d in shorter.differences)
    assert DifferenceKind.EXTRA in compare_traces(trace(mlp()), trace(longer)).by_kind()


def test_shapes_and_bytes() -> None:
    kinds = compare_traces(trace(mlp()), trace(mlp(width=16))).by_kind()
    assert {DifferenceKind.SHAPE, DifferenceKind.BYTES} <= set(kinds)
    assert DifferenceKind.KERNEL not in kinds and DifferenceKind.MISSING not in kinds


def test_dtypes() -> None:
    kinds = compare_traces(trace(mlp().double()), trace(mlp())).by_kind()
    assert DifferenceKind.DTYPE in kinds and DifferenceKind.SHAPE not in kinds


def test_a_storage_that_is_freed_later() -> None:
    class Holding(nn.Module):
        def __init__(self, hold: bool) -> None:
            super().__init__()
            self.hold, self.linear = hold, nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(x) + 1
            kept = y if self.hold else None
            y = y * 2
            y = y + 3
            del kept
            return y

    held, freed = trace(Holding(True)), trace(Holding(False))
    comparison = compare_traces(held, freed)
    assert set(comparison.by_kind()) == {DifferenceKind.FREED}
    assert compare_traces(held, freed, lifetimes=False).identical


def test_an_empty_trace() -> None:
    full = trace(mlp())
    nothing = replace(full, ops=(), events=(), storages=(), calls=())
    assert compare_traces(nothing, nothing).share_equal == 1.0
    assert set(compare_traces(full, nothing).by_kind()) == {DifferenceKind.MISSING}
