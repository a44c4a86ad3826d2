"""The examples of torchinfo's README with the import replaced, and tables at a fixed width."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import torchinfo_models as tm

from torchgauge.compat.torchinfo import Units, summary

Golden = Callable[[str, str], None]


def table(text: str) -> str:
    """Return the text without the two figures that depend on the kernels of a torch release."""
    pattern = r"^(Forward/backward pass size|Estimated Total Size)[^:]*: .*$"
    return re.sub(pattern, r"\1 …", text, flags=re.MULTILINE).removesuffix("\n")


class LSTMNet(nn.Module):
    """Of the README: batch first, two outputs."""

    def __init__(
        self, vocab_size: int = 20, embed_dim: int = 300, hidden_dim: int = 512, num_layers: int = 2
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.encoder = nn.LSTM(embed_dim, hidden_dim, num_layers=num_layers, batch_first=True)
        self.decoder = nn.Linear(hidden_dim, vocab_size)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        out, hidden = self.encoder(self.embedding(x))
        out = self.decoder(out)
        return out.view(-1, out.size(2)), hidden


def test_how_to_use(capsys: pytest.CaptureFixture[str], golden: Golden) -> None:
    model = tm.SingleInputNet()
    batch_size = 16
    summary(model, input_size=(batch_size, 1, 28, 28))
    golden("compat/torchinfo_digits.txt", capsys.readouterr().out.removesuffix("\n"))


def test_get_model_summary_as_string(capsys: pytest.CaptureFixture[str]) -> None:
    model_stats = summary(tm.SingleInputNet(), (1, 1, 28, 28), verbose=0)
    summary_str = str(model_stats)
    assert capsys.readouterr().out == ""
    assert summary_str.count("\n") == 19
    print(model_stats)  # in a notebook
    assert capsys.readouterr().out == summary_str + "\n"


def test_explore_different_configurations(
    capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    summary(
        LSTMNet(),
        (1, 100),
        dtypes=[torch.long],
        verbose=2,
        col_width=16,
        col_names=["kernel_size", "output_size", "num_params", "mult_adds"],
        row_settings=["var_names"],
    )
    golden("compat/torchinfo_lstm.txt", table(capsys.readouterr().out))


def test_multiple_inputs_with_different_data_types() -> None:
    class MultipleInputNetDifferentDtypes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1a, self.fc1b = nn.Linear(300, 50), nn.Linear(50, 10)
            self.fc2a, self.fc2b = nn.Linear(300, 50), nn.Linear(50, 10)

        def forward(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
            x1 = self.fc1b(torch.relu(self.fc1a(x1)))
            x2 = self.fc2b(torch.relu(self.fc2a(x2.type(torch.float))))
            return torch.cat((x1, x2), 0)

    by_size = summary(
        MultipleInputNetDifferentDtypes(), [(1, 300), (1, 300)],
        dtypes=[torch.float, torch.long], verbose=0,
    )  # fmt: skip
    input_data = torch.randn(1, 300)
    other_input_data = torch.randn(1, 300).long()
    model = MultipleInputNetDifferentDtypes()
    for given in (
        {"input_data": [input_data, other_input_data]},
        {"input_data": {"x1": input_data, "x2": other_input_data}},
    ):
        assert str(summary(model, verbose=0, **given)) == str(by_size)
    assert by_size.total_params == 31_120


def test_sequentials_and_module_lists(golden: Golden) -> None:
    result = summary(tm.ContainerModule(), input_size=(1, 5), depth=4, verbose=0)
    golden("compat/torchinfo_containers.txt", table(str(result)))


GOLDEN: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "all_columns": (
        tm.SingleInputNet,
        {
            "input_size": (7, 1, 28, 28),
            "col_names": ("kernel_size", "groups", "input_size", "output_size", "num_params",
                          "params_percent", "mult_adds", "trainable"),
            "col_width": 18,
        },
    ),
    "ascii": (
        tm.LinearModel,
        {"input_size": (2, 128), "row_settings": ("ascii_only", "depth", "var_names")},
    ),
    "listed": (tm.InsideModel, {"verbose": 2, "col_names": ("kernel_size", "num_params")}),
    "tied": (tm.TiedWeightsModel, {"input_size": (2, 3)}),
    "hidden": (
        tm.SimpleRNN,
        {
            "input_size": (2, 3),
            "row_settings": ("hide_recursive_layers", "depth"),
            "col_names": ("output_size", "num_params", "mult_adds"),
        },
    ),
    "attention": (
        lambda: nn.TransformerEncoderLayer(64, 4, 256, batch_first=True),
        {
            "input_size": (1, 128, 64),
            "col_names": ("output_size", "num_params", "params_percent", "mult_adds"),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_tables(name: str, golden: Golden, capsys: pytest.CaptureFixture[str]) -> None:
    build, settings = GOLDEN[name]
    result = summary(build(), **settings)
    assert capsys.readouterr().out == f"{result}\n"
    golden(f"compat/torchinfo_{name}.txt", table(str(result)))


def test_table_of_a_failure(golden: Golden) -> None:
    with pytest.raises(RuntimeError) as caught:
        summary(tm.EdgeCaseModel(throw_error=True), (5, 1, 28, 28))
    golden("compat/torchinfo_failed.txt", str(caught.value.statistics))


def test_formatting_options(golden: Golden) -> None:
    results = summary(tm.SingleInputNet(), input_size=(16, 1, 28, 28), verbose=0)
    tables = [str(results)]
    results.formatting.macs_units = Units.NONE
    tables.append(str(results))
    results.formatting.params_size_units = Units.KILOBYTES
    results.formatting.params_count_units = Units.MEGABYTES
    results.formatting.macs_units = Units.TERABYTES
    tables.append(str(results))
    golden("compat/torchinfo_units.txt", "\n".join(tables))


# ------------------------------------------------------------------------ torchvision


@pytest.mark.models
@pytest.mark.parametrize("name", ["resnet18", "resnet152"])
def test_the_resnet_example(name: str, golden: Golden) -> None:
    from torchgauge.models.torchvision_operators import define_missing_operators

    define_missing_operators()
    torchvision = pytest.importorskip("torchvision", exc_type=ImportError)
    model = torchvision.models.get_model(name)
    result = summary(model, (1, 3, 64, 64), depth=3, verbose=0)
    golden(f"compat/torchinfo_{name}.txt", table(str(result)))
    total = sum(parameter.numel() for parameter in model.parameters())
    for depth in range(4):
        assert summary(model, (1, 3, 64, 64), depth=depth, verbose=0).total_params == total
