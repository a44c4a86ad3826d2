"""Masks and indices that are too many to keep decide shapes all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import torchgauge as tg

N = 3000
"""A square of it has more elements than are kept."""


class Chosen(nn.Module):
    """Multiplies as many rows as ``choose`` returns places, ``[k] → [k, 8] → [k, 8]``."""

    def __init__(self, choose: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.layer, self.choose = nn.Linear(8, 8), choose

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = self.choose(x).shape[0]
        return self.layer(x[:1].expand(count, 8))


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = torch.meshgrid(torch.arange(N), torch.arange(N), indexing="ij")
    return rows.flatten(), columns.flatten()


def scattered(x: torch.Tensor) -> torch.Tensor:
    """Return the places of 500 ones that were written to a large mask at random."""
    places = torch.randperm(N * N)[:500]
    mask = torch.zeros(1, N * N, dtype=torch.bool)
    mask = mask.scatter_(1, places[None], torch.ones(1, 500, dtype=torch.bool)).view(N, N)
    return torch.where(mask == 1.0)[0]


def off_the_diagonal(x: torch.Tensor) -> torch.Tensor:
    rows, columns = pairs()
    return torch.stack([rows, columns], dim=1)[rows != columns]


def drawn_from_those(x: torch.Tensor) -> torch.Tensor:
    apart = off_the_diagonal(x)
    chosen = apart[torch.randperm(apart.shape[0])[:70]]
    return chosen[(chosen[:, 0] < N) & (chosen[:, 1] >= 0)]


def triangle(x: torch.Tensor) -> torch.Tensor:
    rows, columns = pairs()
    return rows[rows < columns]


def counted(x: torch.Tensor) -> torch.Tensor:
    return torch.bincount(torch.randint(0, 40, (N * N,)), minlength=40)


MEMBERS = {
    scattered: 500,
    off_the_diagonal: N * (N - 1),
    drawn_from_those: 70,
    triangle: N * (N - 1) // 2,
    counted: 40,
}


@pytest.mark.parametrize("choose", MEMBERS, ids=lambda choose: choose.__name__)
def test_how_many_were_chosen(choose: Callable[[torch.Tensor], torch.Tensor]) -> None:
    model = Chosen(choose)
    before = torch.get_rng_state()
    report = tg.analyze(model, (4, 8))
    assert torch.equal(torch.get_rng_state(), before)
    assert report.execution == "simulated"
    assert report.totals.forward_macs == MEMBERS[choose] * 64


@pytest.mark.parametrize("choose", MEMBERS, ids=lambda choose: choose.__name__)
def test_the_same_in_a_constructor(choose: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with tg.meta_construction():
        assert choose(torch.ones(1)).shape[0] == MEMBERS[choose]


def test_what_was_given_needs_no_copy() -> None:
    """A large tensor of whole numbers that a library computed by itself."""
    given = torch.arange(N * N) % 7
    report = tg.analyze(Chosen(lambda x: given[given == 3]), (4, 8))
    assert report.execution == "simulated"
    assert report.totals.forward_macs == int((given == 3).sum()) * 64


def test_what_was_overwritten_is_not_taken_for_what_it_was() -> None:
    def overwritten(x: torch.Tensor) -> torch.Tensor:
        columns = torch.arange(N)
        mask = columns[:, None] < columns  # deferred
        columns.fill_(0)
        return mask.nonzero()

    report = tg.analyze(Chosen(overwritten), (4, 8))
    assert report.totals.forward_macs == N * (N - 1) // 2 * 64


class Normed(nn.Module):
    """Runs its layer once more where ``question`` says so of the norm of its weight's rows."""

    def __init__(self, question: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.layer, self.question = nn.Linear(8, 8), question

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norms = torch.linalg.vector_norm(self.layer.weight, dim=1)
        x = self.layer(x)
        return self.layer(x) if self.question(norms) else x


QUESTIONS: list[Callable[[torch.Tensor], object]] = [
    lambda n: (n > 0).any(),
    lambda n: (n > 1e-12).all(),
    lambda n: (n != 0).all(),
    lambda n: not (n == 0).any(),
    lambda n: not (n <= 1e-8).any(),
    lambda n: n[n > 0].shape[0] == 8,
    lambda n: (n.abs() > 0).all(),
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_magnitudes_are_taken_to_be_larger_than_zero(
    question: Callable[[torch.Tensor], object],
) -> None:
    report = tg.analyze(Normed(question), (4, 8))
    assert report.execution == "simulated"
    assert report.totals.forward_macs == 2 * 4 * 64
    assert any("magnitudes that were taken to be larger" in note for note in report.assumptions)


def test_a_larger_bound_is_not_decided() -> None:
    model = Normed(lambda n: (n > 0.5).all())
    with torch.no_grad():
        model.layer.weight.fill_(1.0)
    assert tg.analyze(model, (4, 8)).totals.forward_macs == 2 * 4 * 64
    with torch.no_grad():
        model.layer.weight.copy_(torch.linspace(0.0, 0.01, 64).view(8, 8))
    assert tg.analyze(model, (4, 8)).totals.forward_macs == 4 * 64
