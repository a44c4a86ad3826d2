"""Which siblings stand in one row: numbered ones that are equal, and no others."""

from __future__ import annotations

import pytest
from torch import nn

import torchgauge as tg
from torchgauge.render import get_format
from torchgauge.render.pages.report import report_page
from torchgauge.render.tree.parts import Kind, build_parts


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return self.inner(x)


class Parent(nn.Module):
    def __init__(self, make, names) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, make())

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return x


def linear() -> nn.Module:
    return nn.Linear(8, 8)


def rows(make, names):
    report = tg.analyze(Parent(make, names), (4, 8))
    parts = build_parts(report)
    assert parts.cost.params == report.totals.params
    return [(part.name, part.fold) for part in parts.children if part.kind is Kind.MODULE]


@pytest.mark.parametrize(
    "names",
    [
        ("query", "key", "value", "output"), ("enc", "dec"), ("q_proj", "k_proj", "v_proj"),
        ("student", "teacher"), ("real", "imag"), ("left1", "right2", "left3"), ("a", "b1", "b"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [Block, linear])
def test_siblings_of_different_roles_stay_apart(make, names):
    assert rows(make, names) == [(name, 1) for name in names]


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (("0", "1", "2"), [("0–2", 3)]),
        (("block1", "block2", "block3"), [("block1–3", 3)]),
        (("block_08", "block_09", "block_10"), [("block_08–10", 3)]),
        (("enc", "layer0", "layer1", "layer2", "dec"), [("enc", 1), ("layer0–2", 3), ("dec", 1)]),
        (("a1", "a2", "a3", "b4", "b5", "b6"), [("a1–3", 3), ("b4–6", 3)]),
        (("0", "1", "2", "5", "6", "7"), [("0–2", 3), ("5–7", 3)]),
        (("3", "2", "1"), [("3", 1), ("2", 1), ("1", 1)]),
    ],
)
@pytest.mark.parametrize("make", [Block, linear])
def test_runs_of_numbers_are_folded(make, names, folded):
    assert rows(make, names) == folded


def test_a_numbered_sibling_that_differs_ends_the_run():
    made = iter([8, 8, 8, 4])

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(8, next(made)), nn.ReLU())

        def forward(self, x):
            return self.inner(x)

    assert rows(Wide, ("0", "1", "2", "3")) == [("0–2", 3), ("3", 1)]


def test_the_answers_name_no_role_for_another():
    report = tg.analyze(Parent(linear, ("query", "key", "value", "output")), (4, 8))
    shown = get_format("text").render(report_page(report))
    assert "–output" not in shown and "× 4" not in shown
