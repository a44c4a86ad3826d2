"""Models of libraries: no fault is told, and each gain is the one that a measurement finds."""

from __future__ import annotations

from typing import Any

import pytest
from clean_models import clean_models
from planted_faults import FAULTS
from planted_waste import WASTE

import torchgauge as tg
from torchgauge.advise import engine
from torchgauge.advise.rules import RULES

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore"),  # what the libraries warn of when they are imported
]
MODELS = clean_models()
LEAVES = {"scenario", "lora"}
"""Rules whose changes are not those of the model; test_same_function has those that keep it."""
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


@pytest.mark.parametrize("name", MODELS)
def test_each_gain_is_the_one_that_a_measurement_finds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_front", lambda _: ((), ()))  # combinations: test_search
    make, inputs = MODELS[name]
    model = make().eval()
    rules = tuple(set(RULES) - set(FINDERS) - LEAVES - {case.rule for case in WASTE})
    advice = tg.advise(model, rules=rules, prove=False, **inputs)
    for found in advice.suggestions:
        changed = tg.analyze(found.apply(model), **inputs)
        for figure in found.figures:
            part, _, field = figure.name.partition(".")
            assert getattr(getattr(changed, part), field) == figure.after, (found, figure.name)
