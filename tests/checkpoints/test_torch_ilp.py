"""The planner beside PyTorch's own program for selective checkpointing, on ten models.

Both are priced by the same trace. PyTorch's answer is a share of each module's activations; where
modules are what is checkpointed, a share above nothing is the whole module. The peak of that plan
is then the planner's goal.
"""

from __future__ import annotations

import logging
from functools import cache

import pytest
from torch import nn
from torch_ilp import Choice, TorchProgram

import torchgauge as tg
from torchgauge.checkpoints.candidates import candidates_of
from torchgauge.models.spec import build_model, parse_model_spec

pytestmark = [pytest.mark.models]

FLOPS = "totals.total_flops"
IMAGES = (8, 3, 224, 224)
KEEPS = (0.85, 0.7)
MODELS = (
    "resnet18", "resnet34", "squeezenet1_1", "mobilenet_v3_small", "mnasnet0_5",
    "shufflenet_v2_x0_5", "regnet_y_400mf", "googlenet", "vit_b_32", "vit_b_16",
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def quiet():
    """Its warnings say where one figure of its own is replaced by another."""
    logger = logging.getLogger("torch.distributed._tools.sac_ilp")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


@cache
def model_of(name: str) -> nn.Module:
    spec = parse_model_spec(f"torchvision:{name}", {})
    model: nn.Module = build_model(spec, with_weights=False).model
    return model


def traced(model: nn.Module, **options: object) -> tg.Report:
    return tg.analyze(model, IMAGES, mode="training", optimizer="none", **options)


@cache
def program(name: str) -> TorchProgram:
    return TorchProgram(report=traced(model_of(name)))


def choice(name: str, keep: float) -> Choice:
    pytest.importorskip("pulp")
    own = program(name)
    memory = own.report.memory
    most = memory.peak_allocated_bytes - round((1 - keep) * memory.saved_activation_bytes)
    units = [item.place.path for item in candidates_of(own.trace).found]
    found = own.chosen(most, units)
    if found is None:
        pytest.skip("its model of the memory sees no plan that goes so low")
    return found


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("name", MODELS)
def test_it_needs_no_more_flops_at_no_higher_peak(name: str, keep: float) -> None:
    found = choice(name, keep)
    theirs = traced(model_of(name), checkpointed=list(found.shares))
    peak = theirs.memory.peak_allocated_bytes
    plan = tg.plan_checkpoints(model_of(name), IMAGES, memory=peak, optimizer="none")
    assert plan.fits and plan.figure("memory.peak_allocated_bytes").after <= peak
    assert plan.figure(FLOPS).after <= theirs.totals.total_flops
