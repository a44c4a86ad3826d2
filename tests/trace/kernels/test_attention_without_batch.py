"""Attention on three dimensions: a batch of one from PyTorch 2.14 on, plain products before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.torch_version import TorchVersion
from torch.utils._python_dispatch import TorchDispatchMode

import torchgauge as tg
from torchgauge.analyze import virtual_device_of
from torchgauge.facts.trace import Execution
from torchgauge.request import Inputs
from torchgauge.target import target_of
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.kernels import cpu
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.run.session import Session

attend: Any = nn.functional.scaled_dot_product_attention
NEW, OLD = TorchVersion("2.14.1"), TorchVersion("2.13.0")
CASES: dict[str, dict[str, Any]] = {
    "alone": {},
    "causal": {"is_causal": True},
    "a mask of all heads": {"attn_mask": torch.ones(3, 6).tril()},
    "a mask per head": {"attn_mask": torch.rand(4, 3, 6)},
    "a mask of truths": {"attn_mask": torch.ones(3, 6, dtype=torch.bool).tril()},
    "dropout": {"dropout_p": 0.5},
}


class Attention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attend(q, k, v, **self.options)  # type: ignore[no-any-return]


def tensors() -> list[torch.Tensor]:
    return [torch.randn(4, length, 8) for length in (3, 6, 6)]


def names(model: nn.Module, given: list[torch.Tensor], scenario: tg.Scenario) -> set[str]:
    plan = plan_inputs(model, Inputs(data=tuple(given)))
    assert plan is not None
    virtual = virtual_device_of(target_of(scenario))
    run = RunPlan(model=model, plan=plan, scenario=scenario, model_name="model", target=virtual)
    return {op.name for op in Session(run, Execution.SIMULATED).run().trace.ops}


class Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
@pytest.mark.parametrize("release", [OLD, NEW], ids=str)
def test_the_values_are_those_of_pytorch(options: dict[str, Any], release: TorchVersion) -> None:
    given = tensors()
    attention = cpu.without_batch(cpu.scaled_dot_product_attention, release)
    torch.manual_seed(1)
    real = attend(*given, **options)
    torch.manual_seed(1)
    torch.testing.assert_close(attention(*given, **options), real)


@pytest.mark.parametrize("name", CASES)
def test_the_products_are_those_of_the_installed_release(name: str) -> None:
    given, model = tensors(), Attention(**CASES[name])
    with Names() as real:  # type: ignore[no-untyped-call]
        model(*given)
    traced = names(model, given, tg.Scenario())
    products = ("bmm", "attention_for_cpu")
    assert {n for n in real.found if any(part in n for part in products)} == {
        n for n in traced if any(part in n for part in products)
    }


@pytest.mark.parametrize(("release", "is_fused"), [("2.13", False), ("2.14", True)])
def test_a_gpu_fuses_it_too(release: str, is_fused: bool) -> None:
    scenario = tg.Scenario(device="A100-SXM-80GB", precision="fp16", torch_release=release)
    found = names(Attention(), tensors(), scenario)
    assert any("flash" in name for name in found) == is_fused
    assert any("bmm" in name for name in found) != is_fused
    report = tg.analyze(Attention(), input_data=tensors(), scenario=scenario)
    assert report.totals.forward_macs == 2 * 4 * 3 * 6 * 8


def test_other_dimensions_stay_as_they_are() -> None:
    attention = cpu.without_batch(cpu.scaled_dot_product_attention, NEW)
    matrices, batches = torch.randn(6, 8), torch.randn(2, 4, 6, 8)
    with Names() as found:  # type: ignore[no-untyped-call]
        attention(matrices, matrices, matrices)
        attention(batches[0], batches, batches)
    assert "aten.unsqueeze.default" not in found.found
