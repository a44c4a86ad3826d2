"""``FlopCounterMode`` beside PyTorch's own: every operator of a training step, and by module.

Small models compute for real; those of torchvision and timm call their operators on the meta
device, where attention has other kernels than on the CPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flops_beside import MODELS, Mechanism, all_listed, built, differences, listed
from torch.utils.flop_counter import FlopCounterMode as Original
from tracing import leaves

from torchgauge.compat.flop_counter import FlopCounterMode

MISSING = Mechanism(
    who_is_right="ours", why="PyTorch has no formula for this operator and counts nothing"
)
GROUPS = Mechanism(
    who_is_right="ours",
    why="PyTorch counts the weight gradient of a grouped convolution as if it had one group",
)
MODULES = Mechanism(
    who_is_right="ours",
    why="PyTorch ends a module's backward when its input has a gradient: with residuals that is "
    "too early, and a dropout whose output is its input is given its neighbours' work",
)


def step(name: str, counter: Any) -> Any:
    """Run a forward and a backward under a counter."""
    library = name.partition("-")[0]
    model, args, kwargs = built(
        name, device="meta" if library in ("torchvision", "timm") else "cpu"
    )
    with counter(display=False) as counted:
        output = model.train()(*args, **kwargs)
        differentiable = [leaf for leaf in leaves(output) if leaf.requires_grad]
        sum(leaf.mean() for leaf in differentiable).backward()
    return counted


def figures(counter: Any) -> dict[str, int]:
    counts = counter.get_flop_counts()
    return {str(op): flops for op, flops in counts.get("Global", {}).items() if flops}


def compare(name: str) -> list[dict[str, str]]:
    """Return a row per operator that differs, and one for the modules where only they differ."""
    theirs, ours = step(name, Original), step(name, FlopCounterMode)
    rows = differences(name, figures(theirs), figures(ours), mechanism)
    differing = {row["what"] for row in rows}
    where = [
        {
            module: {str(op): flops for op, flops in ops.items() if str(op) not in differing}
            for module, ops in counter.get_flop_counts().items()
        }
        for counter in (theirs, ours)
    ]
    names = where[0].keys() | where[1].keys()
    elsewhere = [n for n in names if where[0].get(n, {}) != where[1].get(n, {})]
    if elsewhere:
        rows += differences(name, {"modules": 0}, {"modules": len(elsewhere)}, lambda _: MODULES)
    return rows


def mechanism(what: str) -> Mechanism | None:
    return GROUPS if what == "aten.convolution_backward" else MISSING


@pytest.mark.models
@pytest.mark.parametrize("name", MODELS)
def test_every_operator_of_every_module(name: str) -> None:
    assert compare(name) == listed("flop_counter", name)


def test_the_table_is_complete() -> None:
    rows = all_listed("flop_counter")
    assert len(MODELS) >= 40
    assert {row["why"] for row in rows} <= {m.why for m in (MISSING, GROUPS, MODULES)}
    totals = {row["model"] for row in rows if row["what"] != "modules"}
    assert len(MODELS) - len(totals) >= 25  # of these the totals agree, operator by operator


def test_a_backward_is_twice_the_forward_in_every_inner_layer() -> None:
    """PyTorch's counter gives matrix products to the dropouts of the same model instead."""
    model = torch.nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    x = torch.zeros(2, 10, 32, requires_grad=True)
    ours, theirs = FlopCounterMode(display=False), Original(display=False)
    for counter in (ours, theirs):
        with counter:
            model(x).sum().backward()
    counts = ours.get_flop_counts()
    for name in ("linear1", "linear2"):
        found = counts[f"TransformerEncoderLayer.{name}"]
        assert found[torch.ops.aten.mm] == 2 * found[torch.ops.aten.addmm]
    assert not any("dropout" in name for name in counts)
    assert any("dropout" in name for name in theirs.get_flop_counts())


@pytest.mark.models
def test_the_table_of_figures_is_laid_out_alike() -> None:
    tabulate = pytest.importorskip("tabulate")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten())
    texts = []
    for kind in (Original, FlopCounterMode):
        with kind(display=False, depth=3) as counter:
            model(torch.zeros(2, 3, 8, 8)) @ torch.zeros(288, 2)
        texts.append(counter.get_table())
    del tabulate
    # The newest tabulate takes the leading spaces away that PyTorch puts there.
    squeezed = [[" ".join(line.replace("-", " - ").split()) for line in text.splitlines()[2:]]
                for text in texts]  # fmt: skip
    assert squeezed[0] == squeezed[1]
