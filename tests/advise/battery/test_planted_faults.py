"""Every fault that was planted is found, where it was planted, and once repaired no longer."""

from __future__ import annotations

import pytest
from planted_faults import FAULTS, TRAINING, Keeper, Planted
from torch import Tensor, nn

import torchgauge as tg


@pytest.mark.parametrize("case", FAULTS, ids=str)
def test_a_planted_fault_is_found(case: Planted) -> None:
    advice = tg.advise(case.make(), case.size, rules=(case.rule,), prove=False, **case.options)
    (found,) = advice.faults
    assert (found.rule, found.where) == (case.rule, case.where)
    assert found.text and found.why and found.remedy


class LastOnly(nn.Module):
    """Keeps the last output, which the next one replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x).relu()
        self.last = y.mean()
        return y


@pytest.mark.parametrize(
    "model",
    [Keeper(lambda y: y.detach().mean()), Keeper(lambda y: 1.0), LastOnly()],
    ids=["detached", "a number", "the last alone"],
)
def test_what_does_not_keep_a_graph_alive_is_no_fault(model: nn.Module) -> None:
    advice = tg.advise(model, (4, 8), rules=("kept-graph",), **TRAINING)
    assert not advice.faults and advice.quiet[0].why
    assert not getattr(model, "kept", None), "the model itself keeps nothing of the advice"
