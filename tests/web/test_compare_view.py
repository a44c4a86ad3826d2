"""Two reports as a page: the layers are matched as ``torchgauge.compare`` matches them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg

pytestmark = pytest.mark.browser


class Wrapped(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone(x)


def chain(count: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(8, 8) for _ in range(count)))


def rows(page: Any) -> list[tuple[str, float]]:
    return page.locator("#compare tr[data-path]").evaluate_all(
        "all => all.map(row => [row.dataset.path, row.dataset.after - row.dataset.before])"
    )


def test_a_layer_that_moved_is_no_change(page_of: Callable[..., Any]) -> None:
    before, after = (tg.analyze(model, (2, 8)) for model in (chain(3), Wrapped(chain(3))))
    assert [row for row in rows(page_of(before, after)) if row[1]] == []


def test_differences_are_those_of_compare(page_of: Callable[..., Any]) -> None:
    before, after = (tg.analyze(chain(count), (2, 8)) for count in (2, 6))
    found = rows(page_of(before, after))
    assert found == [["2", 4 * 72]], "four equal layers are one row"
    assert sum(layer.difference["params"] for layer in tg.compare(before, after).layers) == 4 * 72


def test_it_is_as_wide_as_a_phone(page_of: Callable[..., Any]) -> None:
    before, after = (tg.analyze(chain(count), (2, 8), device="T4") for count in (2, 6))
    page = page_of(before, after, width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
