"""Changes that keep the function, over models of libraries: outputs, state and training."""

from __future__ import annotations

import copy
from typing import Any, Final

import pytest
import torch
from clean_models import clean_models
from planted_waste import WASTE
from torch import nn

import torchgauge as tg
from torchgauge.advise.rules import rule_of
from torchgauge.advise.subject import Subject
from torchgauge.analyze import analyze_model
from torchgauge.changes.change import Change, rewritten
from torchgauge.models.requests import request_of

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore"),  # what the libraries warn of when they are imported
]
MODELS: Final = clean_models()
MORE: Final = ("constant-folding", "unused-parameter", "chunked-loss")
RULES: Final = (*dict.fromkeys(case.rule for case in WASTE), *MORE)
SMALL: Final = (
    "torchvision:resnet18", "torchvision:mobilenet_v3_large", "torchvision:shufflenet_v2_x1_0",
    "torchvision:vgg11_bn", "timm:resnet26", "timm:efficientnet_b0", "timm:ghostnet_100",
    "timm:repvgg_a0", "transformers:GPT2", "transformers:Bert", "transformers:Llama",
)  # fmt: skip
"""Those that train on images of 64 × 64 pixels, or on words."""


def changes_of(model: nn.Module, inputs: dict[str, Any], **options: Any) -> list[Change]:
    inputs = dict(inputs)
    request = request_of(model, inputs.pop("input_size", None), inputs | options)
    subject = Subject(request=request, report=analyze_model(request))
    found = (item for name in RULES for item in rule_of(name).look(subject))
    return [item for item in found if isinstance(item, Change)]


def settled(model: nn.Module, inputs: dict[str, Any]) -> nn.Module:
    """Give the norms statistics as a training leaves them."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return model


@pytest.mark.parametrize("name", MODELS)
def test_gains_are_those_of_a_measurement_and_outputs_are_equal(name: str) -> None:
    make, inputs = MODELS[name]
    model = settled(make(), inputs).eval()
    advice = tg.advise(model, rules=RULES, **inputs)
    for found in advice.suggestions:
        assert "outputs equal" in found.proof[0], found.text
        copied = found.apply(model)
        if found.keeps_state:
            copied.load_state_dict(model.state_dict())
        changed = tg.analyze(copied, **inputs)
        for figure in found.figures:
            part, _, field = figure.name.partition(".")
            assert getattr(getattr(changed, part), field) == figure.after, figure.name
    refused = [item.why for item in advice.quiet if "computes something else" in item.why]
    assert not refused, "a rule that keeps the function was caught by its proof"


@pytest.mark.parametrize("name", SMALL)
def test_training_goes_on(name: str) -> None:
    torch.manual_seed(0)
    make, inputs = MODELS[name]
    if "input_size" in inputs:
        inputs = {"input_size": (4, 3, 64, 64)}
    model = make().train()
    changed = copy.deepcopy(model)
    for change in changes_of(model, inputs, mode="training"):
        before = changed.state_dict()
        changed = rewritten(change, changed, rule_of(change.rule), shares_tensors=False)
        if change.keeps_state:
            changed.load_state_dict(before)
    optimizer = torch.optim.SGD(changed.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append(_loss(changed, inputs))
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-5:]) < sum(losses[:5])


def _loss(model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    if "input_data" in inputs:
        found: torch.Tensor = model(**inputs["input_data"]).loss
        return found
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(inputs["input_size"], generator=generator)
    return nn.functional.cross_entropy(model(images), torch.arange(len(images)))
