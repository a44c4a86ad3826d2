"""Inputs of any kind: sizes with and without batch, integers, dicts, arrays, callables."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.errors import InputError


def shapes(report: tg.Report) -> list[tuple[int, ...]]:
    return [value.tensor.shape for value in report.inputs if value.tensor is not None]


def dtypes(report: tg.Report) -> list[str]:
    return [value.tensor.dtype for value in report.inputs if value.tensor is not None]


@pytest.mark.parametrize(
    ("layer", "size", "expected"),
    [
        (nn.Conv1d(2, 4, 3), (2, 16), (1, 2, 16)),
        (nn.Conv1d(2, 4, 3), (5, 2, 16), (5, 2, 16)),
        (nn.Conv2d(3, 4, 3), (3, 8, 8), (1, 3, 8, 8)),
        (nn.Conv2d(3, 4, 3), (7, 3, 8, 8), (7, 3, 8, 8)),
        (nn.Conv3d(3, 4, 3), (3, 8, 8, 8), (1, 3, 8, 8, 8)),
        (nn.LSTM(4, 4, batch_first=True), (9, 4), (1, 9, 4)),
        (nn.LSTM(4, 4, batch_first=True), (2, 9, 4), (2, 9, 4)),
        (nn.Linear(4, 2), (4,), (1, 4)),
        (nn.Linear(4, 2), (6, 4), (6, 4)),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)), (3, 8, 8), (1, 3, 8, 8)),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)), (5, 3, 8, 8), (5, 3, 8, 8)),
        (nn.Embedding(10, 4), (7,), (1, 7)),
        (nn.Embedding(10, 4), (2, 7), (2, 7)),
    ],
    ids=str,
)
def test_sizes_with_and_without_a_batch(
    layer: nn.Module, size: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    report = tg.analyze(layer, size)
    assert shapes(report) == [expected]
    assert any("batch" in text for text in report.assumptions)


def test_explicit_batch_beats_the_guess() -> None:
    report = tg.analyze(nn.Conv2d(3, 4, 3), (3, 8, 8), batch_size=4)
    assert shapes(report) == [(4, 3, 8, 8)] and report.batch_size == 4
    assert not any("batch" in text for text in report.assumptions)
    report = tg.analyze(nn.LSTM(4, 4), (9, 4), batch_size=2, batch_dim=1)
    assert shapes(report) == [(9, 2, 4)]
    assert shapes(tg.analyze(nn.LSTM(4, 4), (9, 4), batch_dim=-2)) == [(9, 1, 4)]


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.words = nn.Conv2d(3, 4, 3), nn.Embedding(10, 4)

    def forward(self, picture: torch.Tensor, words: torch.Tensor, *, scale: float = 1.0) -> Any:
        seen = self.image(picture).mean((2, 3)) * scale
        return {"both": seen + self.words(words).mean(1), "extra": (seen, None, [seen])}


def test_several_inputs_by_position_and_by_name() -> None:
    report = tg.analyze(TwoInputs(), [(3, 8, 8), (5,)])
    assert shapes(report) == [(1, 3, 8, 8), (1, 5)]
    assert dtypes(report) == ["float32", "int64"]
    assert [value.name for value in report.inputs] == ["picture", "words"]
    report = tg.analyze(TwoInputs(), {"words": (2, 5), "picture": (2, 3, 8, 8)}, scale=2.0)
    assert [value.name for value in report.inputs] == ["words", "picture", "scale"]
    assert report.inputs[2].text == "2.0"


def test_every_leaf_of_the_output_is_there() -> None:
    report = tg.analyze(TwoInputs(), [(3, 8, 8), (5,)])
    names = [(value.name, value.tensor and value.tensor.shape) for value in report.outputs]
    assert names == [
        ("both", (1, 4)),
        ("extra.0", (1, 4)),
        ("extra.1", None),
        ("extra.2.0", (1, 4)),
    ]


def test_real_data_of_every_kind() -> None:
    model = TwoInputs()
    picture, words = torch.zeros(2, 3, 8, 8), torch.zeros(2, 5, dtype=torch.int64)
    by_position: Any = (picture, words)
    for data in (
        by_position,
        list(by_position),
        {"picture": picture, "words": words},
        OrderedDict(picture=picture, words=words),
        (picture.numpy(), words.numpy()),
        lambda: by_position,
    ):
        report = tg.analyze(model, input_data=data)
        assert shapes(report) == [(2, 3, 8, 8), (2, 5)]
        assert report.batch_size == 2
    assert shapes(tg.analyze(nn.Linear(4, 2), input_data=np.zeros((3, 4), np.float32))) == [(3, 4)]


class TokenizerOutput(dict):  # type: ignore[type-arg]
    """What a tokenizer returns: a mapping with attributes."""


def test_no_samples_at_all() -> None:
    report = tg.analyze(nn.Linear(4, 4), input_data=torch.zeros(0, 4), name_batch=True)
    assert shapes(report) == [(0, 4)]
    assert report.totals.forward_macs == 0


class Propagate(nn.Module):
    """One layer of a graph network: features ``[N, 4]`` over a sparse adjacency ``[N, N]``."""

    def __init__(self, adjacency: torch.Tensor | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.adjacency = adjacency

    def forward(self, x: torch.Tensor, adjacency: torch.Tensor | None = None) -> torch.Tensor:
        adjacency = self.adjacency if adjacency is None else adjacency
        return torch.sparse.mm(adjacency, self.layer(x))


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_sparse_tensors(mode: str) -> None:
    """No operator on sparse tensors can be simulated; then the model runs for real."""
    adjacency, x = torch.eye(6).to_sparse(), torch.zeros(6, 4)
    for model, data in ((Propagate(), (x, adjacency)), (Propagate(adjacency), x)):
        report = tg.analyze(model, input_data=data, scenario=tg.Scenario(mode=mode))
        assert report.execution == "real"
        assert report.modules["layer"].macs == 6 * 4 * 4


def test_tokenizer_output() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(100, 8)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            if bool(attention_mask.all()):
                return self.words(input_ids)
            return self.words(input_ids) * attention_mask[..., None]

    tokens = TokenizerOutput(
        input_ids=torch.ones(2, 7, dtype=torch.int64),
        attention_mask=torch.ones(2, 7, dtype=torch.int64),
    )
    report = tg.analyze(Encoder(), input_data=tokens)
    assert report.execution == "simulated" and shapes(report) == [(2, 7), (2, 7)]
    # From a shape alone the mask is made of ones, and the branch taken on it is said.
    report = tg.analyze(Encoder(), {"input_ids": (2, 7), "attention_mask": (2, 7)})
    assert report.execution == "simulated"
    assert any("decided on an input that was made from its size" in t for t in report.assumptions)


def test_values_decide_shapes_without_a_real_run() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            keep = torch.arange(x.shape[1], device=x.device) < lengths.max()
            count = int(keep.sum())
            assert keep.tolist()[0] and keep.nonzero().shape == (count, 1)
            return self.linear(x[:, keep])[:, :count]

    data = (torch.zeros(2, 9, 4), torch.tensor([3, 5]))
    report = tg.analyze(Masked(), input_data=data)
    assert report.execution == "simulated"
    assert report.outputs[0].tensor is not None and report.outputs[0].tensor.shape == (2, 5, 4)


def test_packed_sequences() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 6, batch_first=True)

        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> Any:
            packed = nn.utils.rnn.pack_padded_sequence(
                x, lengths, batch_first=True, enforce_sorted=False
            )
            return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)

    report = tg.analyze(Packed(), input_data=(torch.zeros(3, 9, 4), torch.tensor([9, 2, 5])))
    assert report.execution == "simulated"
    assert report.totals.forward_macs == (9 + 2 + 5) * 4 * 6 * (4 + 6)
    assert report.outputs[0].tensor is not None and report.outputs[0].tensor.shape == (3, 9, 6)
    training = tg.Scenario(mode="training")
    report = tg.analyze(
        Packed(), input_data=(torch.zeros(3, 9, 4), torch.tensor([9, 2, 5])), scenario=training
    )
    assert report.execution == "simulated" and report.totals.backward_flops > 0


def test_batch_dimensions_are_named() -> None:
    class Windows(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            batch, channels, size, _ = x.shape
            windows = x.view(batch, channels, 2, size // 2, 2, size // 2).permute(0, 2, 4, 3, 5, 1)
            return windows.reshape(batch * 4, -1, channels), x.transpose(0, 1), x.mean(0)

    report = tg.analyze(Windows(), (2, 3, 8, 8), name_batch=True)
    assert [value.batch_dims for value in report.outputs] == [((0, 4),), ((1, 1),), ()]
    assert report.inputs[0].batch_dims == ((0, 1),)
    assert report.modules[""].calls[0].outputs[0].batch_dims == ((0, 4),)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"input_size": (3, 8, 8), "input_data": torch.zeros(1)}, "both input_size and input_data"),
    ({"input_size": (3, 0, 8)}, "not positive"),
    ({"input_size": (-1, 3, 8, 8)}, "leave the batch out"),
    ({"input_size": "3,8,8"}, "is not a size"),
    ({"input_size": (3, 8.5, 8)}, "not a tuple of whole numbers"),
    ({"input_size": (3, 8, 8), "dtypes": ["int32", "int8"]}, "2 dtypes for 1 inputs"),
    ({"input_size": (3, 8, 8), "dtypes": ["flaot32"]}, "unknown dtype 'flaot32'"),
    ({"input_size": (3, 8, 8), "batch_size": 0}, "batch_size=0 is not positive"),
    ({"input_size": (3, 8, 8), "batch_dim": 9}, "batch_dim=9 is out of range"),
    ({"input_data": torch.zeros(1), "batch_size": 2}, "do not go with input_data"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_impossible_inputs_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tg.analyze(nn.Conv2d(3, 4, 3), **options)


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("where", ["argument", "keyword", "in a dict", "second"])
def test_an_input_that_is_optimized_is_an_input(where, mode):
    """Style transfer and attacks pass a parameter; it is none that the model forgot to register."""

    class Takes(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, first=None, x=None):
            first = first["x"] if isinstance(first, dict) else first
            return self.layer(first if x is None else x)

    image = nn.Parameter(torch.zeros(8, 4))
    data = {
        "argument": (image,), "keyword": {"x": image}, "in a dict": ({"x": image},),
        "second": (None, image),
    }[where]  # fmt: skip
    report = tg.analyze(Takes(), input_data=data, mode=mode)
    assert (report.memory.input_bytes, report.memory.parameter_bytes) == (128, 80)
    assert report.warnings == () and report.totals.params == 20
