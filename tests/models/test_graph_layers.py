"""PyTorch Geometric's layers on sparse adjacencies: stored elements × features, to the byte."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg

geometric = pytest.importorskip("torch_geometric")
pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings(
        "ignore:Sparse .* support is in beta",
        "ignore:Sparse invariant checks",
        "ignore:Converting sparse tensor",
    ),
]

NODES, IN, OUT = 50, 16, 8


@pytest.mark.parametrize("kind", ["csr", "coo", "csc"])
@pytest.mark.parametrize("layer", ["GCNConv", "SAGEConv", "GINConv"])
def test_messages_are_sums_over_edges(layer: str, kind: str) -> None:
    places = torch.randperm(NODES * NODES)[:190]
    edges = torch.stack([places // NODES, places % NODES])
    size = (NODES, NODES)
    adjacency = getattr(geometric.utils, f"to_torch_{kind}_tensor")(edges, size=size)
    layers: dict[str, tuple[Any, int]] = {
        "GCNConv": (lambda g: g.GCNConv(IN, OUT, normalize=False), NODES * IN * OUT + 190 * OUT),
        "SAGEConv": (lambda g: g.SAGEConv(IN, OUT), 2 * NODES * IN * OUT + 190 * IN),
        "GINConv": (lambda g: g.GINConv(nn.Linear(IN, OUT)), NODES * IN * OUT + 190 * IN),
    }
    make, macs = layers[layer]
    report = tg.analyze(make(geometric.nn), input_data=(torch.randn(NODES, IN), adjacency))
    assert report.totals.forward_macs == macs
    assert not report.not_counted
