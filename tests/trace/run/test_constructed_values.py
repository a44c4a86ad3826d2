"""A real run of a model that was built without memory has the values that were constructed."""

from __future__ import annotations

import torch
from torch import nn

import torchgauge as tg


class Repeats(nn.Module):
    """Runs its layer as often as a buffer says, after a question that only a real run answers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.register_buffer("times", torch.tensor([3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.times, torch.Tensor)
        x = x + 1 if x.sum() > 0 else x
        for _ in range(int(self.times)):
            x = self.layer(x)
        return x


def test_a_buffer_of_a_real_run_has_its_value() -> None:
    with tg.meta_construction():
        model = Repeats()
    report = tg.analyze(model, input_data=torch.rand(400, 8))
    assert (report.execution, report.totals.forward_macs) == ("real", 3 * 400 * 8 * 8)
