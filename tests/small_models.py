"""Small models of every kind that a virtual device treats in its own way, and their traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import torchgauge as tg
from torchgauge.analyze import virtual_device_of
from torchgauge.compare.streams import StreamComparison, compare_traces
from torchgauge.facts.trace import Execution, Trace
from torchgauge.target import target_of
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.run.session import Session


class Attention(nn.Module):
    """Self-attention ``[B, L, 64] → [B, L, 64]`` with four heads of 16."""

    def __init__(
        self, *, causal: bool = False, mask: str = "", dropout: float = 0.0, keys: int = 4
    ) -> None:
        super().__init__()
        self.query, self.out = nn.Linear(64, 64), nn.Linear(64, 64)
        self.key, self.value = nn.Linear(64, 16 * keys), nn.Linear(64, 16 * keys)
        self.causal, self.dropout, self.grouped = causal, dropout, keys != 4
        made = {"": None, "bool": torch.ones(16, 16).tril().bool(), "float": torch.zeros(16, 16)}
        self.register_buffer("mask", made[mask])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def heads(y: torch.Tensor) -> torch.Tensor:
            return y.unflatten(-1, (-1, 16)).transpose(1, 2)

        mask = self.mask
        if mask is not None and mask.is_floating_point():
            mask = mask.to(self.query.weight.dtype)
        y = functional.scaled_dot_product_attention(
            heads(self.query(x)), heads(self.key(x)), heads(self.value(x)), attn_mask=mask,
            is_causal=self.causal, dropout_p=self.dropout if self.training else 0.0,
            enable_gqa=self.grouped,
        )  # fmt: skip
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A transformer's layer; ``scale`` is passed by name."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(64), nn.LayerNorm(64)])
        self.attention = Attention(causal=True)
        self.mlp = nn.Sequential(
            nn.Linear(64, 256, bias=False), nn.GELU(), nn.Dropout(0.1), nn.Linear(256, 64)
        )

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x)) * scale


class Language(nn.Module):
    """Tokens ``[B, L]`` → logits ``[B, L, 50]`` through two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(50, 64), nn.Linear(64, 50)
        self.blocks = nn.ModuleList([Block() for _ in range(2)])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, scale=2.0)
        return self.head(x)


class First(nn.Module):
    """The first output of a module that has several."""

    def __init__(self, inner: nn.Module, *, copies: int = 1) -> None:
        super().__init__()
        self.inner, self.copies = inner, copies

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.inner(*[x] * self.copies)[0]
        return output


class Packed(nn.Module):
    """A recurrent network over sequences of 5, 4 and 2 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 12, 2, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 4, 2]), batch_first=True)
        output: torch.Tensor = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])[0]
        return output


def mlp() -> nn.Module:
    """Return linear layers with a norm, dropout and classes."""
    return nn.Sequential(
        nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Dropout(0.5), nn.Linear(32, 4),
        nn.LogSoftmax(-1),
    )  # fmt: skip


def cnn() -> nn.Module:
    """Return convolutions with both norms, pooling, dropout and a classifier."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, groups=4), nn.GroupNorm(4, 16), nn.SiLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def upsampling() -> nn.Module:
    """Return depthwise and transposed convolutions, interpolation and an instance norm."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.GELU(),
        nn.Conv2d(8, 16, 1), nn.Dropout2d(0.1), nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.ConvTranspose2d(16, 4, 2, 2), nn.InstanceNorm2d(4), nn.Hardswish(), nn.AvgPool2d(2),
    )  # fmt: skip


def volumes() -> nn.Module:
    """Return a convolution over volumes with its norm."""
    return nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2))


Build = Callable[[], nn.Module]
IMAGES, TOKENS, STEPS = (4, 3, 16, 16), (2, 16), (5, 3, 8)
MODELS: dict[str, tuple[Build, tuple[int, ...]]] = {
    "mlp": (mlp, (8, 16)),
    "cnn": (cnn, IMAGES),
    "upsampling": (upsampling, IMAGES),
    "volumes": (volumes, (2, 1, 8, 8, 8)),
    "attention": (Attention, (2, 16, 64)),
    "causal": (lambda: Attention(causal=True), (2, 16, 64)),
    "bool mask": (lambda: Attention(mask="bool"), (2, 16, 64)),
    "float mask": (lambda: Attention(mask="float"), (2, 16, 64)),
    "attention dropout": (lambda: Attention(dropout=0.1), (2, 16, 64)),
    "grouped": (lambda: Attention(keys=2), (2, 16, 64)),
    "multi-head": (lambda: First(nn.MultiheadAttention(32, 4), copies=3), (9, 4, 32)),
    "language": (Language, TOKENS),
    "lstm": (lambda: First(nn.LSTM(8, 12, 2, dropout=0.1)), STEPS),
    "projected": (lambda: First(nn.LSTM(8, 12, 2, proj_size=6, bias=False)), STEPS),
    "gru": (lambda: First(nn.GRU(8, 12, 2, bidirectional=True)), STEPS),
    "rnn": (lambda: First(nn.RNN(8, 12, nonlinearity="relu")), STEPS),
    "packed": (Packed, (3, 5, 8)),
}
"""Name → how to build the model, and the size of its input with the batch."""


def dtypes_of(name: str) -> list[str] | None:
    """Return the dtypes of a model's inputs, ``None`` for floats."""
    return ["int64"] if name == "language" else None


def trace(
    model: nn.Module,
    size: Any,
    scenario: tg.Scenario,
    execution: Execution = Execution.SIMULATED,
    dtypes: list[str] | None = None,
) -> Trace:
    """Run a model on the scenario's device, or for real on the CPU."""
    plan = plan_inputs(
        model, size, None, batch_size=None, batch_dim=None, dtypes=dtypes, forward_kwargs={}
    )
    assert plan is not None
    virtual = virtual_device_of(target_of(scenario))
    request = RunPlan(model=model, plan=plan, scenario=scenario, model_name="model", target=virtual)
    outcome = Session(request, execution).run()
    if outcome.error is not None:
        raise outcome.error
    return outcome.trace


def streams(
    model: nn.Module, size: Any, scenario: tg.Scenario, dtypes: list[str] | None = None
) -> StreamComparison:
    """Compare what the CPU really runs with what is simulated."""
    trace(model, size, scenario, dtypes=dtypes)  # may import parts of torch that keep frames alive
    real = trace(model, size, scenario, Execution.REAL, dtypes)
    return compare_traces(real, trace(model, size, scenario, dtypes=dtypes))
