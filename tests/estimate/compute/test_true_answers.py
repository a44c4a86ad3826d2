"""The answers that existing tools get wrong: exact parameters and MACs, from closed formulas."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

import torchgauge as tg

LENGTH, WIDTH, HEADS = 128, 64, 4
PROJECTIONS = 4 * LENGTH * WIDTH * WIDTH
SCORES_AND_VALUES = 2 * LENGTH * LENGTH * WIDTH


class Attention(nn.Module):
    """Multi-head self-attention, scores by SDPA or by ``@``."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.transpose(-1, -2) / 4).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x)[0]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight)


def half_frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
    model[0].requires_grad_(False)
    return model


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 256, batch_first=True)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "sdpa": (lambda: Attention(fused=True), (1, 128, 64), 16_640, 4_194_304),
    "q@k": (lambda: Attention(fused=False), (1, 128, 64), 16_640, 4_194_304),
    "multihead": (SelfAttention, (1, 128, 64), 16_640, 4_194_304),
    "encoder layer": (encoder_layer, (1, 128, 64), 49_984, 8_388_608),
    "lstm": (
        lambda: nn.LSTM(64, 128, num_layers=2, batch_first=True), (1, 128, 64), 231_424, 29_360_128,
    ),
    "transposed": (lambda: nn.ConvTranspose2d(3, 8, 4, 2, 1), (1, 3, 224, 224), 392, 19_267_584),
    "linear 3-d": (lambda: nn.Linear(64, 64), (1, 128, 64), 4_160, 524_288),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(999, 64), nn.Linear(64, 64)), (1, 128), 68_096, 524_288,
    ),
    "tied": (Tied, (1, 64), 4_096, 8_192),
    "unused": (Unused, (1, 64), 8_192, 4_096),
    "parameter": (Functional, (1, 64), 4_096, 4_096),
    "half frozen": (half_frozen, (1, 64), 8_192, 8_192),
}  # fmt: skip


def test_the_closed_forms_behind_the_table() -> None:
    assert PROJECTIONS + SCORES_AND_VALUES == 4_194_304
    assert PROJECTIONS + SCORES_AND_VALUES + 2 * LENGTH * WIDTH * 256 == 8_388_608
    lstm = LENGTH * 4 * 128 * (64 + 128) + LENGTH * 4 * 128 * (128 + 128)
    assert lstm == 29_360_128
    assert 3 * 8 * 4 * 4 * 224 * 224 == 19_267_584


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", CASES)
def test_parameters_and_macs_are_exact(name: str, mode: str) -> None:
    build, size, params, macs = CASES[name]
    report = tg.analyze(build(), size, scenario=tg.Scenario(mode=mode))
    assert report.totals.params == params
    assert report.totals.forward_macs == macs
    assert all(entry.calls == 0 for entry in report.not_counted)


def test_simple_cnn_to_the_last_mac() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128 * 56 * 56, 1000),
    )  # fmt: skip
    report = tg.analyze(model, (3, 224, 224))
    layers = [report.modules[name] for name in ("0", "3", "7")]
    assert [layer.params for layer in layers] == [1_792, 73_856, 401_409_000]
    assert [layer.macs for layer in layers] == [86_704_128, 924_844_032, 401_408_000]
    assert report.totals.params == 401_484_648 + 1_792 + 73_856 - 75_648
    assert report.totals.forward_macs == 1_412_956_160
    assert report.not_counted == ()


def test_frozen_layers_have_no_weight_gradient() -> None:
    """A frozen first layer: no gradient at all for it; a frozen second one: input gradient only."""
    plain = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
    training = tg.Scenario(mode="training")
    flops = 2 * 64 * 64

    def backward(model: nn.Module) -> int:
        return tg.analyze(model, (1, 64), scenario=training).totals.backward_flops

    assert backward(plain) == 3 * flops
    assert backward(half_frozen()) == flops
    plain[1].requires_grad_(False)
    assert backward(plain) == 2 * flops


def test_a_checkpointed_block_runs_twice() -> None:

    def block() -> nn.Module:
        linears = [nn.Linear(64, 64, bias=False) for _ in range(2)]
        return nn.Sequential(linears[0], nn.ReLU(), linears[1], nn.ReLU())

    model = nn.Sequential(block(), block(), block())
    plain = tg.analyze(model, (64, 64), scenario=tg.Scenario(mode="training"))
    scenario = tg.Scenario(mode="training", checkpointing=True)
    saved = tg.analyze(model, (64, 64), scenario=scenario)
    forward = 6 * 2 * 64 * 64 * 64
    assert plain.totals.forward_flops == saved.totals.forward_flops == forward
    assert saved.totals.backward_flops == plain.totals.backward_flops + forward
    assert saved.memory is not None and plain.memory is not None
    assert saved.memory.saved_activation_bytes < plain.memory.saved_activation_bytes


def test_module_costs_sum_to_the_total() -> None:
    report = tg.analyze(encoder_layer(), (2, 16, 64), scenario=tg.Scenario(mode="training"))
    assert sum(module.own_params for module in report.modules.values()) == report.totals.params
    root = report.modules[""].calls[0]
    assert root.forward_macs == report.totals.forward_macs
    assert root.backward_flops == report.totals.backward_flops
