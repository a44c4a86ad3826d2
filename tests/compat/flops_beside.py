"""What the side-by-side tests of the FLOP counters share: models, real inputs, tables of rows.

``python tests/compat/write_differences.py`` writes the tables again.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from flop_zoo import PLAIN, TORCHVISION, ZOO
from torch import nn
from tracing import arguments, leaves

HERE = Path(__file__).parent
COLUMNS = ("model", "what", "original", "ours", "who_is_right", "why")
LEFT_OUT = {
    "torchvision-alexnet", "torchvision-inception_v3", "torchvision-vit_b_32",
    "torchvision-maxvit_t", "torchvision-s3d", "torchvision-mvit_v2_s", "torchvision-swin3d_t",
    "torchvision-raft_small", "torchvision-wide_resnet50_2", "torchvision-efficientnet_v2_s",
    "torchvision-deeplabv3_resnet50",
}  # fmt: skip
"""Large inputs or many weights: minutes on a small machine, and no operator of their own."""
NAMES = (
    *PLAIN,
    *(name for name in TORCHVISION if name not in LEFT_OUT),
    "timm-convnextv2_atto", "timm-ghostnet_050", "timm-mobilevit_xxs", "timm-repvgg_a0",
    "timm-resnest14d", "timm-resnetv2_50", "timm-edgenext_xx_small", "timm-poolformer_s12",
    "hf-bert", "hf-gpt2", "hf-llama", "hf-t5", "hf-vit", "hf-mixtral", "diffusers-unet",
)  # fmt: skip
MODELS = {name: ZOO[name] for name in NAMES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """Why two figures differ, and who is right."""

    who_is_right: str
    why: str


def built(name: str, *, device: str = "cpu") -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """Return a model with real weights, in evaluation mode, and what to call it with.

    On the meta device nothing is computed, but every operator is called: enough for what counts
    operators, and fast.
    """
    torch.manual_seed(0)
    entry = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = entry.meta_model().eval() if device == "meta" else entry.build().eval()
    args, kwargs = arguments(model, entry.sizes, data=entry.data, dtypes=entry.dtypes)
    if device == "meta":
        model = model.to("meta")
        args = tuple(value.to("meta") for value in args)
        kwargs = {key: value.to("meta") for key, value in kwargs.items()}
    return model, args, kwargs


class Named(nn.Module):
    """Calls a model with keyword arguments, for tools that only know positional ones."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)

    def forward(self, *inputs: torch.Tensor) -> Any:
        output = self.model(**dict(zip(self.names, inputs, strict=True)))
        return tuple(leaves(output))


def differences(
    model: str,
    original: Mapping[str, Any],
    ours: Mapping[str, Any],
    mechanism: Callable[[str], Mechanism | None],
) -> list[dict[str, str]]:
    """Return a row for every figure that differs."""
    rows = []
    for what in dict.fromkeys((*original, *ours)):
        theirs, mine = original.get(what, 0), ours.get(what, 0)
        if theirs != mine:
            found = mechanism(what) or Mechanism(who_is_right="?", why="?")
            values = (model, what, str(theirs), str(mine), found.who_is_right, found.why)
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def table(tool: str) -> Path:
    """Return the file of a tool's differences."""
    return HERE / f"{tool}_differences.csv"


def listed(tool: str, model: str) -> list[dict[str, str]]:
    """Return the rows of one model."""
    if not table(tool).exists():
        return []
    with table(tool).open(newline="", encoding="utf-8") as lines:
        return [row for row in csv.DictReader(lines) if row["model"] == model]


def all_listed(tool: str) -> list[dict[str, str]]:
    """Return all rows."""
    return [row for name in MODELS for row in listed(tool, name)]


def write(tool: str, rows: Iterable[Mapping[str, str]]) -> None:
    """Write the table."""
    with table(tool).open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
