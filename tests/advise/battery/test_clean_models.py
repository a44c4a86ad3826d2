"""Models of libraries: no fault is told, and each gain is the one that a measurement finds."""

from __future__ import annotations

from typing import Any

import pytest
from clean_models import clean_models
from planted_faults import FAULTS

import torchgauge as tg

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore"),  # what the libraries warn of when they are imported
]
MODELS = clean_models()
FINDERS = tuple(dict.fromkeys(case.rule for case in FAULTS))


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", MODELS)
def test_no_false_alarm(name: str, mode: str) -> None:
    make, inputs = MODELS[name]
    options: dict[str, Any] = {"mode": mode}
    if mode == "training" and "input_size" in inputs:
        options["loss"] = "cross_entropy"
    advice = tg.advise(make(), rules=FINDERS, prove=False, **inputs, **options)
    assert not advice.faults, advice.faults
