"""What the advisor measures is what a report says, in less time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchgauge.advise.figures import figures_of
from torchgauge.advise.measured import measured
from torchgauge.analyze import analyze_model
from torchgauge.errors import ModelError
from torchgauge.facts.fit import Verdict
from torchgauge.models.requests import request_of

TRAINING = {"mode": "training", "optimizer": "adamw"}


def net(width: int = 64) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(width, 10),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((4, 3, 32, 32), {}),
        ((4, 3, 32, 32), TRAINING),
        ((4, 3, 32, 32), {"device": "T4", "precision": "fp16-autocast", **TRAINING}),
        ((64, 3, 32, 32), {"device": "H100-SXM", "grad_enabled": True}),
        ((20_000, 3, 64, 64), {"device": "T4"}),  # does not fit
        ((4, 3, 32, 32), {"device": "T4", **TRAINING, "accumulation": 2, "checkpointing": True}),
    ],
)
def test_the_figures_are_those_of_a_report(size: Any, options: Any) -> None:
    request = request_of(net(), size, options)
    report, found = analyze_model(request), measured(request)
    assert found.figures == figures_of(report)
    on_gpu = "device" in options
    assert found.fits is (on_gpu and report.memory.verdict is Verdict.FITS)


def test_a_step_that_fails_raises_what_an_analysis_raises() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x[..., :2]])

    with pytest.raises(ModelError, match="Broken failed in forward"):
        measured(request_of(Broken(), (2, 3), {}))
