"""How code writes attention: what is rewritten does the same in both modes, the rest says why."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchgauge.advise.rules import rule_of
from torchgauge.advise.subject import Subject
from torchgauge.analyze import analyze_model
from torchgauge.changes.change import Change, rewritten
from torchgauge.models.requests import request_of

TOKENS, WIDTH, HEADS = 48, 16, 2
RULE = rule_of("attention")
Weigh = Callable[["Written", Tensor, Tensor, Tensor], Any]
"""From the scores, the values and the input to what the heads return."""


class Written(nn.Module):
    """Attention with a part of its forward given."""

    def __init__(self, weigh: Weigh) -> None:
        super().__init__()
        self.qkv, self.drop = nn.Linear(WIDTH, 3 * WIDTH), nn.Dropout(0.1)
        self.relu = nn.ReLU(inplace=True)
        self.p, self.factor = 0.1, nn.Parameter(torch.ones(()))
        self.register_buffer("mask", torch.ones(TOKENS, TOKENS).tril().view(1, 1, TOKENS, TOKENS))
        self.weigh = weigh

    def forward(self, x: Tensor) -> Any:
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
        found = self.weigh(self, q @ k.transpose(-2, -1) / 3.0, v, x)
        return found.transpose(1, 2).reshape(b, n, d)


def causal(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    n = x.size(1)
    scores = scores.masked_fill(m.mask[:, :, :n, :n] == 0, float("-inf"))
    return m.drop(F.softmax(scores, dim=-1)) @ v


def from_ones(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    n = x.shape[1]
    seen = torch.tril(torch.ones(n, n, device=x.device))
    return scores.masked_fill(seen == 0, -1e9).softmax(-1) @ v


def added(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    n = x.shape[1]
    mask = torch.triu(torch.full((n, n), float("-inf")), diagonal=1)
    return (scores + mask).softmax(-1) @ v


def compared(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    i = torch.arange(x.shape[1], device=x.device)
    scores.masked_fill_(i[None, :] > i[:, None], float("-inf"))  # its result is not used
    return scores.softmax(-1) @ v


def dropped(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    return F.dropout(scores.softmax(-1), m.p, m.training) @ v


def in_one_mode(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    return scores.softmax(-1) @ v if m.training else scores.softmax(-1) @ v * 2


def with_gradients(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    y = scores.softmax(-1) @ v
    return y * 2 if torch.is_grad_enabled() else y


def kept(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    m.last = scores.softmax(-1)
    return m.last @ v


def counted(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    m.p += 0.1
    return scores.softmax(-1) @ v


def in_float32(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    return F.softmax(scores, dim=-1, dtype=torch.float32).to(v.dtype) @ v


def by_a_tensor(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    return (scores * m.factor).softmax(-1) @ v


def always_dropped(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    return F.dropout(scores.softmax(-1), 0.1) @ v


def half_and_double(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    return (scores * torch.tensor(0.5 if m.training else 2.0)).softmax(-1) @ v


def drawn(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    return (scores + torch.randn(1)).softmax(-1) @ v


def through_a_view(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    y = scores.softmax(-1) @ v
    seen = y.view(-1)
    y.add_(1.0)
    return seen.view(2, -1, WIDTH)


def by_a_child(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    y = scores.softmax(-1) @ v
    m.relu(y)
    return y


def by_a_function(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    y = scores.softmax(-1) @ v
    F.relu(y, inplace=True)
    return y


def filled(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    return scores.masked_fill(m.mask[0, 0] == 0, -1e4).softmax(-1) @ v


def a_little(m: Written, scores: Tensor, v: Tensor, x: Tensor) -> Tensor:
    return scores.masked_fill(m.mask[0, 0] == 0, -1.0).softmax(-1) @ v


def subject_of(model: nn.Module, mode: str) -> Subject:
    options = {"mode": mode} | ({"loss": "sum"} if mode == "training" else {})
    request = request_of(model, (2, TOKENS, WIDTH), options)
    return Subject(request=request, report=analyze_model(request))


@pytest.mark.parametrize("weigh", [causal, from_ones, added, compared, dropped, by_a_function])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_it_does_the_same_in_both_modes_and_for_another_length(weigh: Weigh, mode: str) -> None:
    torch.manual_seed(0)
    model = Written(weigh)
    (change,) = RULE.look(subject_of(model, mode))
    assert isinstance(change, Change)
    new = rewritten(change, model, RULE, shares_tensors=False)
    assert new.state_dict().keys() == model.state_dict().keys()
    fused = new.fused_attention
    assert isinstance(fused, nn.Module) and fused.dropout == (
        0.1 if weigh in (causal, dropped) else 0.0
    )
    for training in (True, False):
        for length in (TOKENS, TOKENS // 2 + 1):
            x = torch.randn(2, length, WIDTH)
            if training and fused.dropout:  # other random numbers: it is there, and that is all
                assert not torch.equal(new.train()(x), new(x))
                continue
            before = copy.deepcopy(model).train(training)(x)
            torch.testing.assert_close(new.train(training)(x), before)


@pytest.mark.parametrize(
    ("weigh", "why"),
    [
        (in_one_mode, "its forward does something else in training than at inference"),
        (with_gradients, "its forward does something else in training than at inference"),
        (kept, "its forward keeps last on the module"),
        (counted, "its forward keeps p on the module"),
        (in_float32, "its softmax is computed in float32"),
        (by_a_tensor, "its scores are multiplied by a tensor, not by a number"),
        (always_dropped, "its dropout of the weights does not follow the mode of the module"),
        (a_little, "its scores are filled with -1.0, which is not a mask"),
        (filled, "its scores are filled with -10000.0, which is not a mask"),
        (half_and_double, "its forward makes a tensor that is not the same each time"),
        (drawn, "its forward makes a tensor that is not the same each time"),
        (through_a_view, "its forward writes into a tensor in place (add_)"),
        (by_a_child, "nothing reads what relu returns; it may write in place"),
    ],
)
def test_what_is_left_alone_says_why(weigh: Weigh, why: str) -> None:
    (said,) = RULE.look(subject_of(Written(weigh), "training"))
    assert said == f"the model cannot be rewritten: {why}"


def test_modules_with_one_reason_are_told_of_once() -> None:
    model = nn.Sequential(*(Written(in_float32) for _ in range(3)))
    (said,) = RULE.look(subject_of(model, "inference"))
    assert said == "0 and 2 more cannot be rewritten: its softmax is computed in float32"
