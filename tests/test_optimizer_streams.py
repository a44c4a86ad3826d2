"""Optimizers and what surrounds them: the simulated ops are those that the CPU really runs.

Each implementation that exists for real tensors on the CPU is compared with the simulated one, op
by op: kernels, shapes, dtypes, bytes allocated, moments of freeing; and the optimizer's states.
"""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import torchgauge as tg
from torchgauge.compare.streams import DifferenceKind, StreamComparison, compare_traces
from torchgauge.errors import ScenarioError
from torchgauge.report.model import Execution, Role, Trace
from torchgauge.report.scenario import OPTIMIZERS
from torchgauge.trace.inputs import plan_inputs
from torchgauge.trace.session import Request, Session

FUSED = ("sgd", "sgd-momentum", "adam", "adamw", "adagrad")
SIMULATED_ONLY = ("adamw-8bit", "none")
STEP_ON_THE_CPU = (
    "state_steps[0].is_cpu is asked, and a tensor takes the place of the number then; meta tensors "
    "say no",
    {"aten._foreach_add_.Tensor", "aten.lift_fresh.default", "aten._foreach_add_.Scalar"},
)
MASKED_ASSIGNMENT = (
    "assigning a number by a mask makes a tensor of it otherwise on meta (Python indexing, C++)",
    {"aten.lift_fresh.default", "aten.scalar_tensor.default"},
)


def trace(model: nn.Module, scenario: tg.Scenario, execution: Execution) -> Trace:
    plan = plan_inputs(
        model, (4, 8), None, batch_size=None, batch_dim=None, dtypes=None, forward_kwargs={}
    )
    request = Request(model=model, plan=plan, scenario=scenario, model_name="model")
    outcome = Session(request, execution).run()
    if outcome.error is not None:
        raise outcome.error
    return outcome.trace


def states(found: Trace) -> list[tuple[str, int]]:
    kept = [s for s in found.storages if s.role is Role.OPTIMIZER_STATE]
    return sorted((s.label, s.nbytes) for s in kept)


def comparison(**scenario: Any) -> StreamComparison:
    """Compare a training step; the states of both sides are the same."""
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 4))
    wanted = tg.Scenario(**({"mode": "training"} | scenario))
    for execution in (Execution.REAL, Execution.SIMULATED):  # the first may import parts of torch
        trace(model, wanted, execution)
    real = trace(model, wanted, Execution.REAL)
    simulated = trace(model, wanted, Execution.SIMULATED)
    assert states(real) == states(simulated)
    return compare_traces(real, simulated)


def unexpected(found: StreamComparison, allowed: set[str]) -> list[Any]:
    return [
        difference
        for difference in found.differences
        if not ({difference.name, difference.real, difference.simulated} & allowed)
        or difference.kind not in (DifferenceKind.KERNEL, DifferenceKind.MISSING)
    ]


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in SIMULATED_ONLY])
@pytest.mark.parametrize("implementation", ["for-loop", "foreach"])
def test_every_optimizer(name: str, implementation: str) -> None:
    found = comparison(optimizer=name, optimizer_implementation=implementation)
    allowed: set[str] = set()
    if implementation == "foreach":
        allowed |= STEP_ON_THE_CPU[1]
    if name == "rprop":
        allowed |= MASKED_ASSIGNMENT[1]
    assert unexpected(found, allowed) == []
    assert found.identical or allowed
    assert found.share_equal > 0.85


@pytest.mark.parametrize("name", FUSED)
def test_fused_optimizers(name: str) -> None:
    assert comparison(optimizer=name, optimizer_implementation="fused").identical


def test_the_step_is_the_only_difference_of_lists() -> None:
    """The exception is needed: it occurs, once a step."""
    found = comparison(optimizer="adamw", optimizer_implementation="foreach")
    assert {d.name for d in found.differences} <= STEP_ON_THE_CPU[1]
    assert 1 <= len(found.differences) <= 2


@pytest.mark.parametrize(
    "scenario",
    [
        {"gradient_clipping": True},
        {"gradient_clipping": True, "optimizer_implementation": "foreach"},
        {"ema": True},
        {"zero_grad": "before-backward"},
        {"zero_grad": "set-to-zero"},
        {"accumulation": 3},
        {"accumulation": 2, "zero_grad": "set-to-zero", "gradient_clipping": True, "ema": True},
        {"precision": "bf16"},
        {"precision": "bf16-autocast", "gradient_clipping": True},
        {"precision": "fp16-autocast", "gradient_clipping": True, "accumulation": 2},
        {"optimizer": "adamw", "optimizer_options": {"amsgrad": True, "weight_decay": 0.0}},
        {"optimizer": "adamw", "optimizer_options": {"maximize": True}},
        {
            "optimizer": "sgd", "optimizer_implementation": "foreach",
            "optimizer_options": {"nesterov": True, "momentum": 0.9, "weight_decay": 0.1},
        },
        {"optimizer": "rmsprop", "optimizer_options": {"centered": True, "momentum": 0.5}},
    ],
    ids=str,
)  # fmt: skip
def test_what_surrounds_the_optimizer(scenario: dict[str, Any]) -> None:
    found = comparison(**scenario)
    assert found.identical, found.differences[:3]


def test_simulated_optimizers_cannot_train() -> None:
    with pytest.raises(ScenarioError, match="simulated here and cannot train"):
        comparison(optimizer="adamw-8bit")
