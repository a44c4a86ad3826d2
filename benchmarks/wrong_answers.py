"""The README's table of MACs: what each tool says about small layers with a known answer.

``python benchmarks/wrong_answers.py`` prints it; a test compares the READMEs with a run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from models import CASES
from peers import PEERS, silence

SHOWN = {
    "torchinfo 1.8.0": "torchinfo",
    "thop 0.1.1": "thop",
    "fvcore": "fvcore",
    "ptflops 0.7.5": "ptflops",
    "calflops 0.3.2": "calflops",
    "FlopCounterMode ÷ 2": "FlopCounterMode",
}
LENGTH, WIDTH, HEADS = 128, 64, 4


class Attention(nn.Module):
    """Four projections around a functional attention."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        split = [
            layer(x).view(x.shape[0], LENGTH, HEADS, WIDTH // HEADS).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        ]
        mixed = F.scaled_dot_product_attention(*split)
        return self.output(mixed.transpose(1, 2).reshape(x.shape))


class SelfAttention(nn.Module):
    """``nn.MultiheadAttention`` of a sequence with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x)[0]


class Functional(nn.Module):
    """A bare parameter used through a function."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A model, its input and the MACs that its definition gives."""

    label: str
    build: Callable[[], nn.Module]
    inputs: dict[str, Any]
    true_macs: int


_PROJECTIONS = 4 * LENGTH * WIDTH * WIDTH
_ATTENTION = 2 * LENGTH * LENGTH * WIDTH
_SEQUENCE = torch.ones(1, LENGTH, WIDTH)


def rows() -> list[Row]:
    """Return the cases in the order of the README."""
    vit = CASES[1]
    attention = _PROJECTIONS + _ATTENTION
    return [
        Row(label="attention by SDPA, length 128, width 64", build=Attention,
            inputs={"x": _SEQUENCE}, true_macs=attention),
        Row(label="`nn.MultiheadAttention`, `eval()`", build=SelfAttention,
            inputs={"x": _SEQUENCE}, true_macs=attention),
        Row(label="`TransformerEncoderLayer`, `eval()`",
            build=lambda: nn.TransformerEncoderLayer(WIDTH, HEADS, 256, batch_first=True),
            inputs={"src": _SEQUENCE}, true_macs=attention + 2 * LENGTH * WIDTH * 256),
        Row(label="LSTM 64→128, 2 layers, length 128",
            build=lambda: nn.LSTM(64, 128, num_layers=2, batch_first=True),
            inputs={"input": _SEQUENCE}, true_macs=LENGTH * 4 * 128 * (64 + 128 + 128 + 128)),
        Row(label="`ConvTranspose2d` 3→8, stride 2",
            build=lambda: nn.ConvTranspose2d(3, 8, 4, stride=2, padding=1),
            inputs={"input": torch.ones(1, 3, 224, 224)}, true_macs=3 * 224 * 224 * 8 * 16),
        Row(label="bare `nn.Parameter` with `F.linear`, length 128", build=Functional,
            inputs={"x": _SEQUENCE}, true_macs=LENGTH * WIDTH * WIDTH),
        Row(label="torchvision `vit_b_16`", build=lambda: vit.model("cpu"),
            inputs=vit.inputs(1, "cpu"), true_macs=vit_b_16_macs()),
    ]  # fmt: skip


def vit_b_16_macs() -> int:
    """Count ViT-B/16 on 224×224 by its definition: 196 patches and a class token, 12 blocks."""
    tokens, width = 197, 768
    block = 4 * tokens * width * width + 2 * tokens * tokens * width + 8 * tokens * width * width
    return 196 * width * 3 * 16 * 16 + 12 * block + width * 1000


def ask(name: str, row: Row) -> int:
    """Return the MACs that one tool reports for one case."""
    with silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        macs = PEERS[name](row.build().eval(), row.inputs).macs
    assert macs is not None
    return macs


def shown(macs: int, true_macs: int) -> str:
    """Write a figure as the README does: giga where large, bold where more than 1 % off."""
    text = f"{macs:,}"
    if true_macs > 10**9:
        text = f"{macs / 1e9:.2f} G" if macs > 10**9 else f"{macs / 1e9:.3f} G"
    return text if abs(macs - true_macs) <= 0.01 * true_macs else f"**{text}**"


def table() -> list[str]:
    """Return the rows of the Markdown table, without its head."""
    lines = []
    for row in rows():
        answers = [shown(ask(name, row), row.true_macs) for name in SHOWN.values()]
        cells = [row.label, shown(row.true_macs, row.true_macs), *answers]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
