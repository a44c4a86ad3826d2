"""Rules that keep what the model computes: found where they apply, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchgauge as tg
from torchgauge.facts.loop.advice import Advice


def advised(model: nn.Module, rule: str, size: tuple[int, ...] = (3, 8, 8), **o: Any) -> Advice:
    return tg.advise(model, size, rules=(rule,), **o)


def block(*between: nn.Module) -> nn.Sequential:
    norm = nn.BatchNorm2d(8)
    nn.init.normal_(norm.running_mean)  # type: ignore[arg-type]
    nn.init.uniform_(norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return nn.Sequential(nn.Conv2d(3, 8, 3), *between, norm, nn.ReLU()).eval()


class ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.norm(self.conv(x))))


@pytest.mark.parametrize("bias", [True, False])
def test_a_norm_after_a_convolution_is_folded(bias: bool) -> None:
    model = block()
    model[0] = nn.Conv2d(3, 8, 3, bias=bias)
    (found,) = advised(model.eval(), "fold-batchnorm").suggestions
    assert found.where == ("0",) and found.settings == {"norms": ["1"]}
    assert "outputs equal within" in found.proof[0] or "to the bit" in found.proof[0]
    changed = found.apply(model)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(changed(x), model(x), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in changed.modules())


def test_a_norm_after_a_linear_layer_is_folded() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)).eval()
    assert advised(model, "fold-batchnorm", (2, 8)).suggestions


@pytest.mark.parametrize(
    "model",
    [
        block(nn.ReLU()),
        ReadTwice().eval(),
        CalledTwice().eval(),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)).eval(),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)).eval(),
    ],
    ids=["something between", "read twice", "called twice", "no statistics", "another norm"],
)
def test_what_cannot_be_folded_is_left(model: nn.Module) -> None:
    advice = advised(model, "fold-batchnorm")
    assert not advice.suggestions and advice.quiet[0].why


def test_nothing_is_folded_in_training() -> None:
    advice = advised(block(), "fold-batchnorm", mode="training")
    assert advice.quiet[0].why == "in training the statistics are those of each batch"


class Spare(nn.Module):
    """Holds a module that nothing calls, one whose weight is read directly, and one in use."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare, self.read = nn.Linear(8, 4), nn.Linear(8, 99), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.used(x), self.read.weight)


def test_what_nothing_calls_is_removed() -> None:
    model = Spare()
    (found,) = advised(model, "never-called", (2, 8)).suggestions
    assert found.where == ("spare",)
    params = next(figure for figure in found.figures if figure.name == "totals.params")
    assert params.difference == -(8 * 99 + 99)
    x = torch.randn(2, 8)
    assert torch.equal(found.apply(model)(x), model(x))


def test_all_in_use_is_said() -> None:
    advice = advised(nn.Linear(8, 2), "never-called", (2, 8))
    assert advice.quiet[0].why == "every module with parameters takes part in the step"
