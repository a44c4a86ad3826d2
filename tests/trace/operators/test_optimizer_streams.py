"""What surrounds an optimizer, with a layer norm: the simulated ops are the CPU's own.

Op by op: kernels, shapes, dtypes, bytes allocated, moments of freeing; and the optimizer's states.
The optimizers themselves are in ``test_virtual_cuda.py``.
"""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import torchgauge as tg
from torchgauge.compare.streams import StreamComparison, compare_traces
from torchgauge.errors import ScenarioError
from torchgauge.facts.trace import Execution, Role, Trace
from torchgauge.request import Inputs
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.run.session import Session


def trace(model: nn.Module, scenario: tg.Scenario, execution: Execution) -> Trace:
    plan = plan_inputs(model, Inputs(size=(4, 8)))
    request = RunPlan(model=model, plan=plan, scenario=scenario, model_name="model")
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
