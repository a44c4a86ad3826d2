"""Dtypes that a size does not give: the other one is tried before anything is run for real."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import torchgauge as tg
from torchgauge.errors import ModelError


class Unused(nn.Module):
    """Has an embedding that it never calls, before the layer that takes the input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(10, 8), layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.layer(x)
        return output[0] if isinstance(output, tuple) else output


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(10, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + self.table(torch.arange(x.shape[1])))


class Queries(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.attention(self.table.weight.expand(len(x), -1, -1), x, x)[0]
        return output


@pytest.mark.parametrize(
    ("model", "size", "macs"),
    [
        (Unused(nn.Linear(16, 4)), (2, 16), 2 * 16 * 4),
        (Unused(nn.Conv2d(3, 8, 3)), (2, 3, 8, 8), 2 * 36 * 27 * 8),
        (Unused(nn.LSTM(16, 8, batch_first=True)), (2, 5, 16), 2 * 5 * 4 * 8 * (16 + 8)),
        (Unused(nn.Sequential(nn.LayerNorm(16), nn.GELU())), (2, 16), 0),
        (Positions(), (2, 5, 16), 2 * 5 * 16 * 4),
        (Queries(), (2, 7, 16), 2 * (5 + 7 + 7 + 5) * 16 * 16 + 2 * 2 * 5 * 7 * 16),
        (Unused(nn.Linear(16, 4)).half(), (2, 16), 2 * 16 * 4),
    ],
)
def test_whole_numbers_that_nothing_looks_up_are_read_as_floats(
    model: nn.Module, size: tuple[int, ...], macs: int
) -> None:
    said: list[str] = []
    report = tg.analyze(model, size, on_progress=said.append)
    assert report.execution == "simulated"
    assert not any("real run" in text for text in said)
    assert report.inputs[0].tensor is not None
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    assert report.inputs[0].tensor.dtype == dtype
    assert report.totals.forward_macs == macs
    assert any(f"input x was read as {dtype}, because" in note for note in report.assumptions)


class Asks(nn.Module):
    """Takes ``x`` as numbers, and ``which`` in a way that floats cannot be taken."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.layer = way, nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        if self.way == "gather":
            return x.gather(1, which)
        if self.way == "index":
            return x[:, which[0]]
        if self.way == "one_hot":
            return x + functional.one_hot(which, 8).float()[:, 0]
        return x.masked_fill(~which, 0.0)


@pytest.mark.parametrize(
    ("way", "dtype"),
    [("gather", "int64"), ("index", "int64"), ("one_hot", "int64"), ("mask", "bool")],
)
def test_floats_that_the_model_refuses_are_read_as_whole_numbers(way: str, dtype: str) -> None:
    report = tg.analyze(Asks(way), [(2, 8), (2, 8)])
    assert report.execution == "simulated"
    assert [value.tensor and value.tensor.dtype for value in report.inputs] == ["float32", dtype]
    said = f"input which was read as {dtype}, because the model does not run on float32"
    assert said in report.assumptions


def test_a_wrong_size_is_not_blamed_on_the_dtype() -> None:
    with pytest.raises(ModelError, match=r"input \[2, 16\] float32") as caught:
        tg.analyze(Unused(nn.Linear(15, 4)), (2, 16))
    assert "must have the same dtype" not in str(caught.value)


@pytest.mark.parametrize("dtypes", [["int64"], ["float32"]])
def test_a_dtype_that_was_asked_for_stays(dtypes: list[str]) -> None:
    model = Unused(nn.Linear(16, 4))
    if dtypes == ["int64"]:
        with pytest.raises(ModelError, match="same dtype"):
            tg.analyze(model, (2, 16), dtypes=dtypes)
    else:
        report = tg.analyze(model, (2, 16), dtypes=dtypes)
        assert not any("was read as float32" in note for note in report.assumptions)


def test_whole_numbers_that_are_looked_up_stay() -> None:
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 4))
    report = tg.analyze(model, (2, 5))
    assert report.inputs[0].tensor is not None
    assert report.inputs[0].tensor.dtype == "int64"
    assert not any("was read as" in note and "because" in note for note in report.assumptions)
