"""Random draws and checks for NaN decide without a real run; an own error is not tried for real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main


class Asks(nn.Module):
    """Runs its layer once more where ``question`` says so."""

    def __init__(self, question: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.layer, self.question = nn.Linear(8, 8), question

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        return self.layer(x) if self.question(x) else x


DRAWS = [
    lambda x: torch.rand(()) < 2,
    lambda x: torch.rand(1).item() < 2,
    lambda x: torch.randint(1, 3, (1,)).item(),
    lambda x: torch.empty(1).uniform_(1, 2).item() > 0,
    lambda x: torch.bernoulli(torch.ones(())),
    lambda x: torch.rand_like(x[0, :2]).max() < 2,
]
FINITE = [
    lambda x: not torch.isnan(x).any(),
    lambda x: not torch.isinf(x).any(),
    lambda x: torch.isfinite(x).all(),
    lambda x: x.isnan().sum() == 0,
    lambda x: not (x != x).any(),
    lambda x: not (torch.isnan(x).any() or torch.isinf(x).any()),
]


@pytest.mark.parametrize("question", DRAWS)
def test_a_random_draw_decides_in_a_simulation(question: Callable[..., object]) -> None:
    first, second = (tg.analyze(Asks(question), (4, 8)) for _ in range(2))
    assert first.execution == "simulated"
    assert first.totals.forward_macs == second.totals.forward_macs == 2 * 4 * 8 * 8
    assert any("was decided on a random number" in note for note in first.assumptions)


@pytest.mark.parametrize("question", FINITE)
def test_results_are_taken_to_be_finite(question: Callable[..., object]) -> None:
    report = tg.analyze(Asks(question), (4, 8))
    assert report.execution == "simulated"
    assert report.totals.forward_macs == 2 * 4 * 8 * 8
    assert any("numbers that were taken to be finite" in note for note in report.assumptions)


@pytest.mark.parametrize(
    "question",
    [
        lambda x: torch.isnan(torch.full((3,), float("nan"))).any(),
        lambda x: torch.isinf(torch.tensor([1.0, float("inf")])).any(),
        lambda x: torch.tensor([1.0]).isfinite().all(),
        lambda x: torch.isinf(torch.zeros(2000).fill_(float("-inf"))).all(),
    ],
)
def test_what_is_known_is_not_taken_for_finite(question: Callable[..., object]) -> None:
    report = tg.analyze(Asks(question), (4, 8))
    assert report.execution == "simulated"
    assert report.totals.forward_macs == 2 * 4 * 8 * 8
    assert not any("decided" in note for note in report.assumptions)


@pytest.mark.parametrize(
    "question", [lambda x: x.sum() < 1e9, lambda x: (x == x.flip(0)).sum() < 1e9]
)
def test_other_values_are_still_run_for_real(question: Callable[..., object]) -> None:
    assert tg.analyze(Asks(question), (4, 8)).execution == "real"


def test_the_place_of_a_guess_is_named() -> None:
    report = tg.analyze(nn.Sequential(Asks(lambda x: torch.rand(()) < 2)), (4, 8))
    (note,) = (note for note in report.assumptions if "random number" in note)
    assert "(first in 0, " in note
    assert "test_taken.py:" in note


@pytest.mark.parametrize(
    ("condition", "built"),
    [
        ("True", "meta cpu"),
        ("width != 7", "meta cpu"),
        ("self.layer.weight.is_meta", "meta cpu cpu"),
        ("self.layer.weight.device.type == 'meta'", "meta cpu cpu"),
    ],
)
def test_an_own_error_about_devices_is_not_tried_for_real(
    condition: str, built: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What PyTorch says of missing data, and checks for it, still are."""
    (tmp_path / "own.py").write_text(
        "import sys, torch\n"
        "class Own(torch.nn.Module):\n"
        "    def __init__(self, width=8):\n"
        "        super().__init__()\n"
        "        print('built on', torch.zeros(1).device, file=sys.stderr)\n"
        "        self.layer = torch.nn.Linear(8, 8)\n"
        f"        if {condition}:\n"
        "            raise ValueError('this layer cannot live on the meta device')\n"
        "    def forward(self, x):\n"
        "        return self.layer(x)\n",
        encoding="utf-8",
    )
    status = main(["summary", f"{tmp_path / 'own.py'}:Own", "--input-size", "2,8"])
    said = capsys.readouterr().err
    places = [line.split()[-1] for line in said.splitlines() if line.startswith("built on")]
    assert " ".join(places) == built
    assert (status == 0) == ("weight" in condition)
    if status:
        assert "ValueError: this layer cannot live on the meta device" in said
