"""FLOPs against ``torch.utils.flop_counter``: every operator that it knows, on many models.

Both counts are taken on the same recorded operators, forward and backward. Every disagreement
stands in ``flop_counter_differences.csv`` with its mechanism, and who is right and why in
``flop_counter_mechanisms.csv``; ``FlopCounterMode`` itself then watches real runs on the CPU.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flop_comparison import FLASH_OF_THE_CPU, TABLE, compare, disagreements, packet_of, run
from flop_zoo import PLAIN, ZOO, Entry
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from tracing import arguments, leaves

from torchgauge.estimate.compute.flops import op_cost


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


LISTED: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
for row in read(TABLE):
    LISTED[row["model"]].append(row)
MECHANISMS = {row["mechanism"]: row for row in read(TABLE.with_name("flop_counter_mechanisms.csv"))}


def long_unless_plain(names: object) -> list[object]:
    return [n if n in PLAIN else pytest.param(n, marks=pytest.mark.models) for n in names]


@pytest.mark.parametrize("name", long_unless_plain(ZOO))
def test_every_operator(name: str) -> None:
    assert disagreements(name) == LISTED[name]


def test_the_table_is_complete() -> None:
    rows = [row for rows in LISTED.values() for row in rows]
    assert LISTED.keys() <= ZOO.keys()
    assert {row["mechanism"] for row in rows} == MECHANISMS.keys()
    assert all(row["right"] and row["why"] for row in MECHANISMS.values())
    agreeing = [name for name in ZOO if not LISTED[name]]
    assert len(ZOO) >= 60
    assert len(agreeing) >= 30


def test_both_counters_see_something() -> None:
    """Every model has operators that torch knows, forward and backward."""
    found = compare("small-cnn")
    known = Counter(phase for (phase, _), value in found.items() if value.torch)
    assert set(known) == {"inference", "forward", "backward"}


# ------------------------------------------------------------------------ end to end

REAL = (
    "perceptron", "half-frozen", "small-cnn", "autoencoder", "causal-convolutions", "unet-3d",
    "multihead", "multihead-dropout", "encoder", "encoder-dropout", "encoder-decoder", "gru", "rnn",
    "lstm-cell", "einsum", "torchvision-resnet18", "torchvision-swin_t", "timm-mixer_s32_224",
    "hf-bert", "hf-gpt2", "hf-llama", "hf-t5", "hf-vit", "diffusers-unet", "pyg-gat", "pyg-gcn",
)  # fmt: skip
"""Models without grouped convolutions and LSTM layers: the counter miscounts and misses them."""


@pytest.mark.parametrize("name", long_unless_plain(REAL))
def test_a_training_step_watched_by_the_counter_itself(name: str) -> None:
    entry = ZOO[name]
    counted = watch_a_real_step(entry)
    ours: Counter[str] = Counter()
    for op in run(entry, entry.meta_model(), "training").ops:
        packet, cost = packet_of(op), op_cost(op)
        assert cost is not None
        if packet in flop_registry or packet in FLASH_OF_THE_CPU:
            ours[str(packet)] += cost.flops
    assert counted
    assert +ours == +counted


def as_mapping(formula: Callable[..., int]) -> Callable[..., int]:
    """Return one of torch's formulas in the form in which ``custom_mapping`` takes it again."""

    def counted(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return formula(*args, out_val=out_val, **kwargs)

    counted._get_raw = True  # it reads the shapes by itself
    return counted


def watch_a_real_step(entry: Entry) -> Counter[str]:
    """Return FLOPs by operator of forward and backward on real CPU tensors."""
    torch.manual_seed(0)
    model = entry.build().train()
    args, kwargs = arguments(model, entry.sizes, data=entry.data, dtypes=entry.dtypes)
    siblings = {op: as_mapping(flop_registry[known]) for op, known in FLASH_OF_THE_CPU.items()}
    with FlopCounterMode(display=False, custom_mapping=siblings) as counter:
        output = model(*args, **kwargs)
        differentiable = [leaf for leaf in leaves(output) if leaf.requires_grad]
        sum(leaf.mean() for leaf in differentiable).backward()
    by_op = counter.get_flop_counts().get("Global", {})
    return Counter({str(op): flops for op, flops in by_op.items()})
