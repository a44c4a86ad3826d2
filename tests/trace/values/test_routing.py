"""Mixtures of experts: an even split, stated, and the same MACs as for any routing."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import torchgauge as tg

_TOKENS, _WIDTH, _EXPERTS, _CHOSEN = 100, 16, 8, 2


class _Experts(nn.Module):
    def __init__(self, width: int = _WIDTH, experts: int = _EXPERTS, chosen: int = _CHOSEN) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(experts))
        self.chosen = chosen


class _Where(_Experts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, chosen = torch.topk(self.gate(x).softmax(-1), self.chosen)
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == index)
            out = out.index_add(0, token, expert(x[token]) * weight[token, slot, None])
        return out


class _Masks(_Experts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, chosen = torch.topk(self.gate(x), self.chosen)
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            mask = (chosen == index).any(-1)
            if mask.any():
                out[mask] += expert(x[mask])
        return out


class _OneHot(_Experts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, chosen = torch.topk(self.gate(x), self.chosen)
        out = torch.zeros_like(x)
        mask = functional.one_hot(chosen, len(self.experts)).permute(2, 1, 0)
        for hit in torch.greater(mask.sum((-1, -2)), 0).nonzero():
            _, token = torch.where(mask[hit].squeeze(0))
            out.index_add_(0, token, self.experts[int(hit)](x[token]))
        return out


class _Scattered(_Experts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = self.gate(x).topk(self.chosen)[1]
        mask = torch.zeros(len(x), len(self.experts), dtype=torch.int64, device=x.device)
        return self.summed(x, mask.scatter_(1, chosen, 1))

    def summed(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(x)
        for hit in mask.sum(0).nonzero().flatten().tolist():
            (token,) = torch.where(mask[:, hit])
            out.index_add_(0, token, self.experts[hit](x[token]))
        return out


class _Placed(_Scattered):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = self.gate(x).topk(self.chosen)[1]
        mask = torch.zeros(len(x), len(self.experts), dtype=torch.int64, device=x.device)
        mask[torch.arange(len(x), device=x.device)[:, None], chosen] = 1
        return self.summed(x, mask)


class _Counts(_Experts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = self.gate(x).topk(self.chosen)[1].flatten()
        order = chosen.argsort()
        counts = torch.bincount(chosen, minlength=len(self.experts)).tolist()
        parts = x[order // self.chosen].split(counts)
        return torch.cat([e(part) for e, part in zip(self.experts, parts, strict=True)])


class _Argmax(_Experts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        best = self.gate(x).argmax(-1)
        out = torch.zeros_like(x)
        for index in best.unique():
            out[best == index] = self.experts[int(index)](x[best == index])
        return out


class _Groups(_Experts):
    """Chooses groups of experts first, as DeepSeek's do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.gate(x).sigmoid()
        groups = scores.view(-1, 4, 2).sum(-1)
        kept = torch.zeros_like(groups).scatter_(1, groups.topk(2)[1], 1).repeat_interleave(2, 1)
        chosen = scores.masked_fill(~kept.bool(), 0.0).topk(self.chosen)[1]
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            token, _ = torch.where(chosen == index)
            out.index_add_(0, token, expert(x[token]))
        return out


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("kind", [_Where, _Masks, _OneHot, _Counts, _Argmax, _Groups])
def test_the_macs_are_those_of_any_routing(kind: type[_Experts], mode: str) -> None:
    chosen = 1 if kind is _Argmax else _CHOSEN
    optimizer = {"optimizer": "sgd"} if mode == "training" else {}
    report = tg.analyze(kind(), (_TOKENS, _WIDTH), scenario=tg.Scenario(mode=mode, **optimizer))
    # A branch on a choice ("has this expert a token?") is taken for real where that is possible.
    branches = kind is _Masks
    assert report.execution == ("real" if branches else "simulated")
    macs = _TOKENS * _WIDTH * _EXPERTS + chosen * _TOKENS * _WIDTH**2
    assert report.totals.forward_macs == macs
    stated = [text for text in report.assumptions if "an even split over 8 choices" in text]
    assert len(stated) == (0 if branches else 1)


@pytest.mark.parametrize("kind", [_OneHot, _Scattered, _Placed])
@pytest.mark.parametrize(("tokens", "chosen"), [(_TOKENS, _CHOSEN), (1000, 3)])
def test_masks_over_many_experts_are_known(kind: type[_Experts], tokens: int, chosen: int) -> None:
    """300,000 places for 1,000 tokens: as many as LongCat's 768 experts have for 128."""
    experts = 300
    report = tg.analyze(kind(experts=experts, chosen=chosen), (tokens, _WIDTH))
    assert report.execution == "simulated"
    macs = tokens * _WIDTH * experts + chosen * tokens * _WIDTH**2
    assert report.totals.forward_macs == macs


def test_a_branch_on_a_choice_goes_on_with_the_split_where_no_real_run_is_made() -> None:
    report = tg.analyze(_Masks(), (_TOKENS, _WIDTH), real_run=False)
    assert report.execution == "simulated"
    macs = _TOKENS * _WIDTH * _EXPERTS + _CHOSEN * _TOKENS * _WIDTH**2
    assert report.totals.forward_macs == macs
    assert any("an even split over 8 choices" in text for text in report.assumptions)


def test_remainders_are_spread() -> None:
    report = tg.analyze(_Where(experts=8), (10, _WIDTH))
    sizes = [
        report.modules[f"experts.{index}"].calls[0].inputs[0].tensor.shape[0] for index in range(8)
    ]
    assert sizes == [3, 3, 3, 3, 2, 2, 2, 2]


def test_a_mixture_too_large_for_a_real_run() -> None:
    with tg.meta_construction():
        model = _Where(16384, 64, 2)
    report = tg.analyze(model, (10, 16384))
    assert report.execution == "simulated"
    assert report.totals.forward_macs == 10 * (16384 * 64 + 2 * 16384**2)


def test_nothing_is_stated_where_the_split_decides_nothing() -> None:
    class Gathered(_Experts):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            chosen = self.gate(x).topk(self.chosen)[1]
            stacked = torch.stack([expert.weight for expert in self.experts])
            result: torch.Tensor = (stacked[chosen] @ x[:, None, :, None]).sum((1, -1))
            return result

    report = tg.analyze(Gathered(), (_TOKENS, _WIDTH))
    assert report.execution == "simulated"
    assert not any("even split" in text for text in report.assumptions)


def test_a_choice_among_many_is_no_routing() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 50_000)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            word = self.head(x).argmax(-1)
            return x if (word == 2).all() else x * 2

    assert tg.analyze(Words(), (3, 4)).execution == "real"
