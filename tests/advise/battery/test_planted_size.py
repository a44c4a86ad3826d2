"""Models larger than they need to be: what makes them smaller is found, runs and is measured."""

from __future__ import annotations

import pytest
import torch
from planted_faults import Planted, planted
from torch import nn

import torchgauge as tg


def mlp(*, bias: bool = True) -> nn.Module:
    return nn.Sequential(nn.Linear(64, 512, bias), nn.ReLU(), nn.Linear(512, 512), nn.ReLU())


def large(size: int, padding: int | str | None = None, stride: int = 1) -> nn.Module:
    padding = size // 2 if padding is None else padding
    return nn.Sequential(nn.Conv2d(16, 16, size, stride, padding), nn.ReLU(), nn.Conv2d(16, 4, 1))


MAP = {"size": (2, 16, 16, 16)}
SIZE = (
    planted("low-rank", "hidden layers", mlp, "0", "2", size=(2, 64)),
    planted("low-rank", "no bias", lambda: mlp(bias=False), "0", "2", size=(2, 64)),
    planted("large-kernel", "7", lambda: large(7), "0", **MAP),
    planted("large-kernel", "5, same", lambda: large(5, "same"), "0", **MAP),
    planted("large-kernel", "5, strided", lambda: large(5, stride=2), "0", **MAP),
    planted(
        "depthwise-separable", "dense", lambda: nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU()),
        "0", size=(2, 64, 16, 16),
    ),
    planted(
        "global-pooling", "flattened map",
        lambda: nn.Sequential(nn.Conv2d(16, 8, 3), nn.Flatten(), nn.Linear(8 * 14 * 14, 10)), "2",
        **MAP,
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", SIZE, ids=str)
def test_it_is_found_runs_and_is_measured(case: Planted) -> None:
    model = case.make()
    advice = tg.advise(model, case.size, rules=(case.rule,), **case.options)
    assert advice.suggestions, advice.quiet
    (found,) = advice.suggestions
    assert found.where == case.where
    assert found.proof[0].endswith("as before")
    changed = found.apply(model)
    assert changed(torch.randn(case.size)).shape == model(torch.randn(case.size)).shape
    report = tg.analyze(changed, case.size)
    for figure in found.figures:
        part, _, field = figure.name.partition(".")
        assert getattr(getattr(report, part), field) == figure.after, figure.name
    assert found.gain("totals.params") > 0.2 or found.gain("totals.forward_macs") > 0.2


def test_a_layer_of_low_rank_is_kept_as_it_is() -> None:
    """The decomposition is made of the weight: what has that rank loses nothing."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 96)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(96, 8) @ torch.randn(8, 64) / 8)
    model = nn.Sequential(layer, nn.ReLU())
    (found,) = tg.advise(model, (2, 64), rules=("low-rank",)).suggestions
    x = torch.randn(5, 64)
    torch.testing.assert_close(found.apply(model)(x), model(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("case", [large(3), large(5, 0), nn.Conv2d(1, 64, 5, padding=2)])
def test_what_would_not_get_smaller_is_left(case: nn.Module) -> None:
    first = next(module for module in case.modules() if isinstance(module, nn.Conv2d))
    advice = tg.advise(case, (2, first.in_channels, 16, 16), rules=("large-kernel",))
    assert not advice.suggestions
