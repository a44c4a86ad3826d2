"""fvcore's tables and its annotated ``str``: layouts, sums, every argument."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import nn

from torchgauge.compat.fvcore.nn import (
    ActivationCountAnalysis,
    FlopCountAnalysis,
    flop_count_str,
    flop_count_table,
    parameter_count_table,
)
from torchgauge.compat.fvcore.nn.print_model_statistics import format_size

Golden = Callable[[str, str], None]
Logged = pytest.LogCaptureFixture
X = torch.zeros(1, 10)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Linear(10, 10), nn.Linear(10, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c1(self.c2(x))


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.b1 = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b1(x)


class Example(nn.Module):
    """Wrappers around wrappers, a layer that is not called, a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a1 = Wrapper(Wrapper(nn.Sequential(nn.Linear(10, 10), nn.ReLU())))
        self.a2 = Wrapper(Pair())
        self.unused = nn.Linear(20, 20, bias=False)
        self.scale = nn.Parameter(torch.ones(10, 10))
        self.nothing = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a1(self.a2(x)) @ self.scale


class Deep(nn.Module):
    """Five levels, two layers on each."""

    def __init__(self, levels: int = 5) -> None:
        super().__init__()
        self.own = nn.Linear(10, 10, bias=False)
        self.next = Deep(levels - 1) if levels > 1 else nn.Linear(10, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.next(self.own(x))


def test_the_table(golden: Golden) -> None:
    golden("compat/fvcore_table.txt", flop_count_table(FlopCountAnalysis(Example(), X)))


def test_the_table_with_activations_and_without_shapes(golden: Golden) -> None:
    model = Example()
    table = flop_count_table(
        FlopCountAnalysis(model, X),
        activations=ActivationCountAnalysis(model, X),
        show_param_shapes=False,
    )
    golden("compat/fvcore_table_activations.txt", table)


def test_depth_of_the_table(golden: Golden) -> None:
    analysis = FlopCountAnalysis(Deep(), X)
    tables = [flop_count_table(analysis, max_depth=depth) for depth in (0, 1, 2, 3)]
    assert [len(table.splitlines()) - 2 for table in tables] == [1, 3, 6, 9]
    assert flop_count_table(analysis) == tables[3]
    golden("compat/fvcore_table_depth2.txt", tables[2])


def test_the_annotated_model(golden: Golden) -> None:
    model = Example()
    golden("compat/fvcore_str.txt", flop_count_str(FlopCountAnalysis(model, X)))
    both = flop_count_str(FlopCountAnalysis(model, X), ActivationCountAnalysis(model, X))
    golden("compat/fvcore_str_activations.txt", both)


def test_no_line_about_missing_figures_where_none_is() -> None:
    text = flop_count_str(FlopCountAnalysis(Pair(), X))
    assert text.startswith("Pair(\n  #params: 0.22K, #flops: 0.2K\n  (c1): Linear(\n")
    assert "N/A" not in text


def test_the_parameter_table(golden: Golden) -> None:
    golden("compat/fvcore_parameters.txt", parameter_count_table(Example()))
    assert parameter_count_table(Deep()) == parameter_count_table(Deep(), max_depth=3)
    lines = [len(parameter_count_table(Deep(), depth).splitlines()) - 2 for depth in (0, 1, 2, 3)]
    assert lines == [1, 3, 6, 9]


def test_the_tables_of_a_model_without_anything() -> None:
    model = nn.Sequential(nn.ReLU())
    table = flop_count_table(FlopCountAnalysis(model, X))
    assert table.splitlines()[2].split("|")[1:3] == [" model    ", "                        "]
    assert flop_count_str(FlopCountAnalysis(model, X)) == "Sequential(\n  (0): ReLU()\n)"
    assert parameter_count_table(model).splitlines()[2].startswith("| model  ")


def rows(table: str) -> list[tuple[int, list[str]]]:
    """Return the level of each row and its cells."""
    found = []
    for line in table.splitlines()[2:]:
        cells = line[2:-2].split(" | ")
        found.append((len(cells[0]) - len(cells[0].lstrip()), [cell.strip() for cell in cells]))
    return found


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_parts_sum_to_the_total_at_every_depth(depth: int) -> None:
    """Flops are below 100, where fvcore's units do not round."""
    model = nn.Sequential(
        nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
    )
    analysis = FlopCountAnalysis(model, torch.zeros(1, 2))
    table = flop_count_table(analysis, max_depth=depth, show_param_shapes=False)
    found = rows(table)
    for column, total in ((1, 29), (2, 21)):
        assert int(found[0][1][column]) == total
        leaves = [
            int(cells[column])
            for index, (level, cells) in enumerate(found)
            if index + 1 == len(found) or found[index + 1][0] <= level
        ]
        assert sum(leaves) == total


def test_tables_switch_the_warnings_off(caplog: Logged) -> None:
    with caplog.at_level(logging.WARNING, "fvcore.nn.jit_analysis"):
        flop_count_table(FlopCountAnalysis(Example(), X))
        flop_count_str(FlopCountAnalysis(Example(), X))
    assert caplog.messages == []


def test_sizes_change_their_unit_below_a_whole_one() -> None:
    """fvcore, tests/test_print_model_statistics.py, test_pretty_statistics."""
    pairs = {
        4000: "4K", 600000: "0.6M", 0: "0", 20: "20", 3000: "3K", 100: "100", 123456: "0.123M",
        654321: "0.654M", 40: "40", 200: "0.2K", 300: "0.3K", 2 * 10**8: "0.2G", 10**12: "1T",
        2 * 10**14: "0.2P",
    }  # fmt: skip
    assert {value: format_size(value) for value in pairs} == pairs
    assert [format_size(123456, digits) for digits in (2, 4)] == ["0.12M", "0.1235M"]


def test_the_example_of_flop_count_str() -> None:
    """The docstring's example, with the figures it shows."""

    class TestNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2, self.inner = nn.Linear(10, 10), nn.Linear(10, 10), Pair()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc1(self.fc2(self.inner(x)))

    text = flop_count_str(FlopCountAnalysis(TestNet(), torch.randn((1, 10))))
    assert text.startswith(
        "TestNet(\n"
        "  #params: 0.44K, #flops: 0.4K\n"
        "  (fc1): Linear(\n"
        "    in_features=10, out_features=10, bias=True\n"
        "    #params: 0.11K, #flops: 100\n"
        "  )\n"
    )
    assert text.endswith("      #params: 0.11K, #flops: 100\n    )\n  )\n)")
