"""The rule of ``advise`` that plans checkpoints."""

from __future__ import annotations

import pytest
import torch
from planned import Residual, Stack
from torch import nn

import torchgauge as tg

RULE = ("plan-checkpoints",)


def test_a_step_that_does_not_fit_gets_a_plan_that_does():
    model = nn.Sequential(nn.Conv2d(3, 64, 3), *[Residual(64) for _ in range(4)])
    advice = tg.advise(
        model, (64, 3, 224, 224), goal="fit:T4", mode="training", rules=RULE, prove=False
    )
    assert advice.reached
    suggestion = advice.suggestions[0]
    assert suggestion.scenario["checkpointed"] and "checkpoint" in "\n".join(suggestion.snippet)
    report = tg.analyze(
        model, (64, 3, 224, 224), mode="training", device="T4", **suggestion.scenario
    )
    assert report.memory.verdict == "fits"


class Wave(nn.Module):
    """Without a matrix product, and so without FLOPs."""

    def forward(self, x):
        return torch.sin(torch.relu(x) * 2)


def test_a_step_without_flops_gets_a_plan_too():
    model = nn.Sequential(nn.LayerNorm(64), *[Wave() for _ in range(6)])
    advice = tg.advise(
        model, (256, 64), mode="training", optimizer="sgd", goal="memory:-20%", rules=RULE,
        prove=False,
    )  # fmt: skip
    assert advice.reached and advice.suggestions[0].cost == ""


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "not a training step"),
        ({"mode": "training", "checkpointing": True}, "checkpoints already"),
        ({"mode": "training"}, "no GPU is named"),
        ({"mode": "training", "device": "T4"}, "the step fits"),
    ],
)
def test_why_it_says_nothing(options, why):
    advice = tg.advise(Stack(32), (2, 8, 32), rules=RULE, prove=False, **options)
    assert not advice.suggestions and why in advice.quiet[0].why
