"""The page "Coming from torchinfo": its code runs, and its figures are what comes out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from torchgauge.compat.torchinfo import ModelStatistics, summary

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from-torchinfo.md").read_text(encoding="utf-8")


def test_the_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(block, namespace)
    assert len(blocks) == 3
    assert "Conv2d: 1-1" in capsys.readouterr().out


def tied() -> nn.Module:
    model = nn.Sequential(nn.Embedding(1000, 64), nn.Linear(64, 1000, bias=False))
    model[1].weight = model[0].weight
    return model


def macs(result: ModelStatistics) -> str:
    return f"{result.total_mult_adds:,}"


def params(result: ModelStatistics) -> str:
    return f"{result.total_params:,}"


def bytes_of_a_pass(result: ModelStatistics) -> str:
    return f"{result.total_output_bytes / 1e6:.2f} MB"


Figure = Callable[[ModelStatistics], str]
FIGURES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Figure, str]] = {
    "bias": (lambda: nn.Linear(64, 64), (128, 64), macs, "532,480 | {} |"),
    "positions": (lambda: nn.Linear(64, 64), (1, 128, 64), macs, "| 4,160 | {} |"),
    "transposed": (
        lambda: nn.ConvTranspose2d(3, 8, 4, stride=2, bias=False), (1, 3, 32, 32), macs,
        "1,672,704 | {} |",
    ),
    "attention": (
        lambda: nn.TransformerEncoderLayer(64, 4, 256, batch_first=True), (1, 128, 64), macs,
        "| 33,344 | {} |",
    ),
    "look-up": (
        lambda: nn.Sequential(nn.Embedding(1000, 64), nn.Linear(64, 64)), (1, 128), macs,
        "| 68,160 | {} |",
    ),
    "tied": (tied, (1, 128), params, "| 128,000 | {} |"),
    "one layer": (lambda: nn.Linear(64, 64), (4096, 64), bytes_of_a_pass, "torchinfo, {} and"),
    "three layers": (
        lambda: nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Softmax(-1)), (4096, 64),
        bytes_of_a_pass, "and {} here",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure(name: str) -> None:
    build, size, figure, text = FIGURES[name]
    assert text.format(figure(summary(build(), size, verbose=0))) in PAGE


@pytest.mark.models
@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "resnet50"])
def test_a_figure_of_torchvision(name: str) -> None:
    from torchgauge.models.torchvision_operators import define_missing_operators

    define_missing_operators()
    models = pytest.importorskip("torchvision.models", exc_type=ImportError)
    with torch.device("meta"):
        model = models.get_model(name)
    text = macs(summary(model, (1, 3, 224, 224), verbose=0))
    assert any(f"`{name}`" in line and f"| {text} |" in line for line in PAGE.splitlines())


@pytest.mark.models
def test_the_memory_of_resnet50() -> None:
    from torchgauge.models.torchvision_operators import define_missing_operators

    define_missing_operators()
    models = pytest.importorskip("torchvision.models", exc_type=ImportError)
    with torch.device("meta"):
        model = models.get_model("resnet50")
    result = summary(model, (32, 3, 224, 224), verbose=0)
    assert f"{result.total_output_bytes / 1e9:.2f} GB here" in PAGE


@pytest.mark.models
def test_the_figures_of_the_original() -> None:
    torchinfo = pytest.importorskip("torchinfo")
    for name in ("bias", "positions", "transposed", "attention"):
        build, size, _, text = FIGURES[name]
        theirs = torchinfo.summary(build(), size, verbose=0)
        assert f"{theirs.total_mult_adds:,}" in text
