"""A trace of a model, which ``tg.analyze`` reads its report from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import torchgauge as tg
from torchgauge.facts.trace import Trace
from torchgauge.request import Inputs
from torchgauge.trace.inputs.plan import InputTensor, plan_inputs
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.run.runs import run


def trace(
    model: nn.Module, sizes: Any, *, data: Any = None, dtypes: Any = None, loss: Any = None,
    mode: str = "inference",
) -> Trace:  # fmt: skip
    """Run a model as ``tg.analyze`` does and return what was recorded."""
    plan = plan_inputs(model, Inputs(size=sizes, data=data, dtypes=dtypes))
    assert plan is not None
    scenario = tg.Scenario(mode=mode, optimizer="none" if mode == "training" else None)
    outcome = run(RunPlan(model=model, plan=plan, scenario=scenario, loss=loss, model_name="model"))
    if outcome.error is not None:
        raise outcome.error
    return outcome.trace


def leaves(value: Any) -> list[torch.Tensor]:
    """Return the tensors in nested containers, dataclasses of transformers included."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return []


def arguments(
    model: nn.Module, sizes: Any, *, data: Any = None, dtypes: Any = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return real inputs on the CPU; the sizes are those of whole batches."""
    plan = plan_inputs(model, Inputs(size=sizes, data=data, dtypes=dtypes))
    assert plan is not None
    readings = (plan, *plan.alternatives)
    plan = min(readings, key=lambda p: sum(len(tensor.shape) for tensor in p.tensors_to_make()))

    def make(value: Any) -> Any:
        return value.make("cpu") if isinstance(value, InputTensor) else value

    return tuple(map(make, plan.args)), {name: make(value) for name, value in plan.kwargs.items()}
