"""An attention is chosen on the copy; what has none to choose is told so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.errors import ScenarioError


class Config:
    _attn_implementation_internal = "sdpa"

    @property
    def _attn_implementation(self) -> str:
        return self._attn_implementation_internal


class Chooses(nn.Module):
    """As a model of transformers: its layer shares its configuration."""

    def __init__(self, *, by_name: bool = True) -> None:
        super().__init__()
        self.config, self.by_name = Config(), by_name
        self.layer = nn.Linear(8, 8)
        self.layer.config = self.config  # type: ignore[assignment]

    def set_attn_implementation(self, name: str) -> None:
        if name == "refused":
            raise ImportError("the package is\nnot installed")
        if self.by_name:
            self.config._attn_implementation_internal = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.layer.config is self.config
        x = self.layer(x)
        return self.layer(x) if self.config._attn_implementation == "twice" else x


def test_chosen_on_the_copy_alone() -> None:
    model = nn.Sequential(Chooses())
    report = tg.analyze(model, (4, 8), attn_implementation="twice")
    assert report.totals.forward_macs == 2 * 4 * 8 * 8
    assert tg.analyze(model, (4, 8)).totals.forward_macs == 4 * 8 * 8


@pytest.mark.parametrize(
    ("model", "name", "said"),
    [
        (nn.Linear(8, 8), "eager", "attn_implementation='eager' has no meaning for Linear"),
        (Chooses(), "refused", "is refused by transformers: the package is not installed"),
        (Chooses(by_name=False), "eager", "Chooses chooses its attention when it is built"),
        (nn.Linear(8, 8), "", "attn_implementation='' is not the name of an attention"),
    ],
)
def test_refused_with_a_reason(model: nn.Module, name: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        tg.analyze(model, (4, 8), attn_implementation=name)
