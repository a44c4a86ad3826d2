"""What a suggestion promises of memory is what the changed model of a library really takes."""

from __future__ import annotations

import pytest
import torch
from clean_models import clean_models

import torchgauge as tg
from real_memory import real_peak
from torchgauge.advise.rules import RULES

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore"),  # what the libraries warn of when they are imported
]
NAMES = (
    "torchvision:resnet18", "torchvision:mnasnet1_0", "torchvision:squeezenet1_1",
    "torchvision:mobilenet_v2", "timm:repvgg_a0",
)  # fmt: skip
SIZE = (2, 3, 64, 64)
_NOT_OF_THE_MODEL = {"scenario", "lora"}


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", NAMES)
def test_the_peak_of_a_real_step_is_the_promised_one(name: str, mode: str) -> None:
    torch.manual_seed(0)
    model = clean_models()[name][0]().eval()
    rules = tuple(rule for rule in RULES if rule not in _NOT_OF_THE_MODEL)
    advice = tg.advise(model, SIZE, rules=rules, prove=False, mode=mode)
    assert advice.suggestions
    for found in advice.suggestions:
        changed = found.apply(model)
        promised = {f.name: f.after for f in found.figures}["memory.peak_allocated_bytes"]
        assert promised is not None
        measured = real_peak(changed, torch.randn(SIZE), training=mode == "training")
        assert measured == pytest.approx(promised, rel=0.002), found.text
