"""Structured pruning, by torch-pruning: on request, for real, and up to a goal."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from clean_models import torchvision_model
from torch import nn

import torchgauge as tg
from torchgauge.advise.rules import RULES
from untouched import fingerprint, same

HAS_IT = importlib.util.find_spec("torch_pruning") is not None
needs_it = pytest.mark.skipif(not HAS_IT, reason="torch-pruning is not installed")
quietly = pytest.mark.filterwarnings("ignore:Unwrapped parameters detected:UserWarning")


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def test_it_looks_only_where_it_is_named() -> None:
    assert "prune" not in RULES


@pytest.mark.skipif(HAS_IT, reason="torch-pruning is installed")
def test_what_to_install_is_said() -> None:
    (quiet,) = tg.advise(small(), (3, 16, 16), rules=("prune",)).quiet
    assert quiet.why == "torch-pruning is not installed: pip install 'torchgauge[prune]'"


@needs_it
def test_channels_leave_and_the_model_stays() -> None:
    model = small()
    before = fingerprint(model)
    advice = tg.advise(model, (3, 16, 16), rules=("prune",))
    assert same(fingerprint(model), before)
    assert len(advice.suggestions) == 2
    found = max(advice.suggestions, key=lambda item: item.gain("totals.params"))
    changed = found.apply(model)
    after = tg.analyze(changed, (3, 16, 16)).totals.params
    assert {f.name: f.after for f in found.figures}["totals.params"] == after
    assert after < 0.4 * sum(tensor.numel() for tensor in model.parameters())
    assert changed(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    assert changed.training == model.training


@needs_it
@quietly
@pytest.mark.models
@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v3_large", "vit_b_16"])
def test_half_of_the_parameters(name: str) -> None:
    model = torchvision_model(name).eval()
    advice = tg.advise(model, (3, 224, 224), goal="params:-50%", prove=False)
    assert advice.reached, advice.path
    assert advice.path[-1].figures[0].ratio is not None
    assert advice.path[-1].figures[0].ratio <= 0.5
    for step in advice.path:
        same_step = next(item for item in advice.suggestions if item.text == step.text)
        model = same_step.apply(model)
    assert model(torch.randn(1, 3, 224, 224)).shape == (1, 1000)
    params = sum(tensor.numel() for tensor in model.parameters())
    assert params == advice.path[-1].figures[0].after
