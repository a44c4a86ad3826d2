"""Modules that several others hold: each call stands where it took place.

The rows are those of a model whose parts are not shared. torchinfo 1.8.0 itself shows an activation
that siblings share in the last of them, before that one runs, and counts parameters twice for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.compat.torchinfo import summary
from torchgauge.compat.torchinfo.model_statistics import ModelStatistics

SIZE = (1, 4, 8, 8)
Make = Callable[[], nn.Module]


class Block(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.conv1, self.act, self.conv2 = nn.Conv2d(4, 4, 3, 1, 1), act, nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.conv2(self.act(self.conv1(x))))


class Chain(nn.Module):
    """Runs what it was given, in order."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for child in self.children():
            x = child(x)
        return x


class Lists(nn.Module):
    """Its blocks lie in containers that are never called."""

    def __init__(self, act: Make) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(act()) for _ in range(3)])
        self.named = nn.ModuleDict({"x": Block(act()), "y": Block(act())})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in (*self.blocks, *self.named.values()):
            x = block(x)
        return x


class Nested(nn.Module):
    """A child holds what its parent holds too, registered behind it."""

    def __init__(self, act: Make) -> None:
        super().__init__()
        self.act = act()
        self.inner = Block(act())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.inner(self.act(x)))


class First(nn.Module):
    """The parent's own comes last."""

    def __init__(self, act: Make) -> None:
        super().__init__()
        self.inner = Block(act())
        self.act = act()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.inner(self.act(x)))


def shared(kind: type[nn.Module] = nn.ReLU) -> Make:
    one = kind()
    return lambda: one


def siblings(act: Make) -> nn.Module:
    return Chain(a=Block(act()), b=Block(act()), c=Block(act()))


def stages(act: Make) -> nn.Module:
    return Chain(one=siblings(act), two=siblings(act))


def depths(act: Make) -> nn.Module:
    return Chain(a=nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 1), act())), b=Block(act()))


def root(act: Make) -> nn.Module:
    return Chain(act=act(), a=Block(act()), b=Block(act()))


MODELS: dict[str, Callable[[Make], nn.Module]] = {
    "siblings": siblings, "stages": stages, "depths": depths, "root": root, "lists": Lists,
    "nested": Nested, "first": First,
}  # fmt: skip


def run(model: nn.Module, **settings: object) -> ModelStatistics:
    given = {"depth": 9, "row_settings": ("depth", "var_names"), **settings}
    return summary(
        model, input_size=SIZE, verbose=0,
        col_names=("input_size", "output_size", "num_params", "mult_adds", "kernel_size"), **given,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("depth", "kind"), [(1, nn.ReLU), (2, nn.GELU), (9, nn.ReLU), (9, nn.Identity)]
)
@pytest.mark.parametrize("name", MODELS)
def test_a_shared_activation_changes_no_line(name: str, kind: type[nn.Module], depth: int) -> None:
    own = run(MODELS[name](kind), depth=depth)
    ours = run(MODELS[name](shared(kind)), depth=depth)
    assert str(own) == str(ours)


@pytest.mark.parametrize("name", MODELS)
def test_each_row_stands_where_it_ran(name: str) -> None:
    model = MODELS[name](shared())
    result, report = run(model), tg.analyze(model, SIZE)
    assert result.total_params == report.totals.params
    assert result.total_mult_adds == report.totals.forward_macs
    ran = [row for row in result.summary_list if row.executed]
    assert len(ran) == sum(len(module.calls) for module in report.modules.values())
    seen = [
        (row.class_name, row.var_name, row.depth) for row in result.summary_list if not row.executed
    ]
    assert len(seen) == len(set(seen)) == (2 if name == "lists" else 0), "containers, each once"


def test_a_convolution_that_siblings_share_counts_once() -> None:
    one = nn.Conv2d(4, 4, 3, 1, 1)
    model = Chain(
        a=nn.Sequential(one, nn.ReLU()), b=nn.Sequential(one, nn.ReLU()), c=nn.Sequential(one)
    )
    result = run(model)
    rows = [(row.var_name, row.depth, row.is_recursive) for row in result.summary_list]
    assert rows == [
        ("Chain", 0, False), ("a", 1, False), ("0", 2, False), ("1", 2, False),
        ("b", 1, False), ("0", 2, True), ("1", 2, False), ("c", 1, False), ("0", 2, True),
    ]  # fmt: skip
    cells = [row.num_params_to_str(False) for row in result.summary_list if row.depth == 2]
    assert cells == ["148", "--", "(recursive)", "--", "(recursive)"]
    assert result.total_params == 148
    assert result.total_mult_adds == 3 * 144 * 64


def test_a_block_that_two_stages_share() -> None:
    block = Block(nn.ReLU())
    result = run(Chain(enc=nn.Sequential(block, nn.ReLU()), dec=nn.Sequential(block)))
    names = [(row.var_name, row.depth) for row in result.summary_list if row.depth < 3]
    assert names == [("Chain", 0), ("enc", 1), ("0", 2), ("1", 2), ("dec", 1), ("0", 2)]
    assert result.total_params == 168


def test_what_is_called_from_elsewhere_stands_at_its_last_place() -> None:
    class Borrowing(nn.Module):
        def __init__(self, act: nn.Module) -> None:
            super().__init__()
            self.borrowed = [act]
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.borrowed[0](self.conv(x))

    act = nn.ReLU()
    result = run(Chain(a=Borrowing(act), b=nn.Sequential(act)))
    assert result.total_params == 20
    assert [row.var_name for row in result.summary_list if row.class_name == "ReLU"] == ["0", "0"]


@pytest.mark.models
@pytest.mark.parametrize("name", MODELS)
def test_the_lines_are_those_that_the_original_writes_where_nothing_is_shared(name: str) -> None:
    original = pytest.importorskip("torchinfo").summary
    settings = {"depth": 9, "verbose": 0, "col_names": ("input_size", "output_size", "kernel_size"),
                "row_settings": ("depth", "var_names")}  # fmt: skip
    theirs = str(original(MODELS[name](nn.ReLU), input_size=SIZE, **settings)).splitlines()
    ours = str(summary(MODELS[name](shared()), input_size=SIZE, **settings)).splitlines()
    titles = [re.sub(r":.*", "", line.replace("Units.MEGABYTES", "M")) for line in theirs]
    rule = max(index for index, line in enumerate(theirs) if line.startswith("Total params")) - 1
    assert [re.sub(r" \d-\d+", "", line) for line in theirs[:rule]] == [
        re.sub(r" \d-\d+", "", line) for line in ours[:rule]
    ]
    assert titles == [re.sub(r":.*", "", line) for line in ours]
