"""Sums of gradients: in place where autograd's engine makes them so in a plain run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from torchgauge import Scenario
from torchgauge.facts.trace import Execution, Phase
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.run.session import Session

Use = Callable[[torch.Tensor], torch.Tensor]
USES: dict[str, tuple[Use, list[str]]] = {
    "two functions": (lambda h: h.tanh() * h.sigmoid(), ["add_"]),
    "three functions": (lambda h: h.tanh() * h.sigmoid() * h.relu(), ["add_", "add_"]),
    "one function twice": (lambda h: h * h, ["add_"]),
    "a residual": (lambda h: h + h.tanh(), ["add_"]),
    "a gradient that is expanded": (lambda h: (h + h.tanh()).sum(), ["add"]),
    "a view": (lambda h: h.tanh().view(32) * h.reshape(32), ["add"]),
}
"""How a tensor is used, and the sums of its gradients."""


class Uses(nn.Module):
    def __init__(self, use: Use) -> None:
        super().__init__()
        self.layer, self.use = nn.Linear(8, 8), use

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.use(self.layer(x))


@pytest.mark.parametrize("execution", list(Execution))
@pytest.mark.parametrize("name", USES)
def test_sums_are_those_of_a_plain_run(name: str, execution: Execution) -> None:
    use, expected = USES[name]
    model = Uses(use)
    assert plain_sums(model) == expected
    plan = plan_inputs(
        model, (4, 8), None, batch_size=None, batch_dim=None, dtypes=None, forward_kwargs={}
    )
    scenario = Scenario(mode="training", optimizer="none")
    request = RunPlan(model=model, plan=plan, scenario=scenario, model_name="Uses")
    trace = Session(request, execution).run().trace
    names = [op.name.split(".")[1] for op in trace.ops if op.phase is Phase.BACKWARD]
    assert [name for name in names if name in ("add", "add_")] == expected


def plain_sums(model: nn.Module) -> list[str]:
    loss = model(torch.ones(4, 8)).mean()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        loss.backward()
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    names = [event.name().removeprefix("aten::") for event in events]
    return [name for name in names if name in ("add", "add_")]
