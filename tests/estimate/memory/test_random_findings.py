"""What random programs found (tests/models/fuzz.py): peaks of real steps, to the byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

import torchgauge as tg
from real_step import predicted_peak, real_peak
from torchgauge.errors import ModelError

pytestmark = [
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True:UserWarning"),
    pytest.mark.skipif(
        torch.backends.cpu.get_cpu_capability() != "AVX512",
        reason="the scratch memory of oneDNN's kernels is known for AVX-512 alone",
    ),
]


class Around(nn.Module):
    """A module and a function of it and the input, behind a layer."""

    def __init__(self, width: int, inner: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.inner, self.function = inner, function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.inner, self.stem(x))


class Two(nn.Module):
    """A normalisation of an input that needs no gradient, beside a layer."""

    def __init__(self, width: int, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.scale = inner, nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.scale


def exact(model: nn.Module, x: torch.Tensor, *, training: bool) -> None:
    real_peak(model, x, training=training)  # the first checkpoint imports, and keeps, frames
    real = real_peak(model, x, training=training)
    scenario = tg.Scenario(mode="training" if training else "inference")
    report = tg.analyze(model, input_data=(x,), scenario=scenario)
    assert report.execution == "simulated"
    assert predicted_peak(report) == real


def again(inner: nn.Module, x: torch.Tensor, *, reentrant: bool, keep: bool = True) -> Any:
    return checkpoint(inner, x, use_reentrant=reentrant, preserve_rng_state=keep)


CHECKPOINTS: dict[str, Callable[[nn.Module, torch.Tensor], Any]] = {
    "not reentrant": lambda inner, x: again(inner, x, reentrant=False),
    "reentrant": lambda inner, x: again(inner, x, reentrant=True),
    "without states": lambda inner, x: again(inner, x, reentrant=False, keep=False),
    "twice": lambda inner, x: again(inner, again(inner, x, reentrant=False), reentrant=False),
    "its own state": lambda inner, x: (torch.get_rng_state(), inner(x))[1],
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_states_of_the_generator_that_a_checkpoint_keeps(name: str, training: bool) -> None:
    inner = nn.Sequential(nn.Linear(32, 32), nn.Tanh())
    exact(Around(32, inner, CHECKPOINTS[name]), torch.rand(4, 8, 32), training=training)


def test_states_of_the_generator_lie_in_main_memory() -> None:
    model = Around(32, nn.Tanh(), CHECKPOINTS["not reentrant"])
    with_state = tg.analyze(model, (8, 32), scenario=tg.Scenario(device="T4"))
    plain = Around(32, nn.Tanh(), lambda inner, x: inner(x))
    without = tg.analyze(plain, (8, 32), scenario=tg.Scenario(device="T4"))
    assert with_state.memory is not None and without.memory is not None
    assert with_state.memory.peak_allocated_bytes == without.memory.peak_allocated_bytes


def packed(inner: nn.Module, x: torch.Tensor, *, first: bool, is_sorted: bool) -> torch.Tensor:
    batch, length = x.shape[:2] if first else x.shape[1::-1]
    lengths = torch.tensor([max(1, length - 2 * row) for row in range(batch)])
    lengths = lengths if is_sorted else lengths.flip(0)
    data = pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=is_sorted)
    return pad_packed_sequence(inner(data)[0], batch_first=first)[0]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("is_sorted", [False, True])
def test_batch_sizes_count_once(kind: str, first: bool, is_sorted: bool, training: bool) -> None:
    inner = getattr(nn, kind)(16, 24, batch_first=first)
    model = Around(16, inner, lambda inner, x: packed(inner, x, first=first, is_sorted=is_sorted))
    exact(model, torch.rand(6, 12, 16), training=training)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("function", [
    lambda inner, x: x.sort(-1)[0], lambda inner, x: x.sort(dim=1, stable=True)[0],
    lambda inner, x: x.transpose(1, 2).sort(dim=0, descending=True)[0],
    lambda inner, x: x.double().sort(-1)[0], lambda inner, x: x.argsort(-1) + x,
    lambda inner, x: x.unfold(-1, 4, 2), lambda inner, x: x.unfold(1, 3, 1),
    lambda inner, x: x.unfold(0, 2, 2).exp(), lambda inner, x: x.transpose(0, 1).unfold(0, 5, 5),
])  # fmt: skip
def test_positions_of_sorts_and_windows(function: Callable[..., Any], training: bool) -> None:
    exact(Around(32, nn.Identity(), function), torch.rand(4, 24, 32), training=training)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "function",
    [
        lambda inner, x: x.cumsum(-1),
        lambda inner, x: x.t().cumsum(0),
        lambda inner, x: x.cumsum(-1, dtype=torch.float64),
        lambda inner, x: (x > 0).cumsum(-1) * x,
        lambda inner, x: x.long().cumsum(0) * x,
        lambda inner, x: (x > 0).cumprod(0) * x,
    ],
    ids=["along rows", "of a transposed", "cast", "of booleans", "of whole numbers", "product"],
)
def test_sums_so_far_copy_only_what_they_cast(function: Callable[..., Any], training: bool) -> None:
    exact(Around(192, nn.Identity(), function), torch.rand(4, 192), training=training)


@pytest.mark.parametrize(("inner", "x"), [
    (nn.BatchNorm1d(192), torch.rand(4, 192)), (nn.BatchNorm1d(32), torch.rand(4, 32, 48)),
    (nn.BatchNorm2d(8), torch.rand(4, 8, 24, 24)), (nn.BatchNorm1d(512), torch.rand(2, 512)),
    (nn.BatchNorm2d(8), torch.rand(4, 8, 24, 24).contiguous(memory_format=torch.channels_last)),
    (nn.BatchNorm3d(4), torch.rand(2, 4, 6, 8, 10)),
])  # fmt: skip
def test_normalisation_of_an_input_without_gradient(inner: nn.Module, x: torch.Tensor) -> None:
    exact(Two(8, inner), x, training=True)


INTEGERS = torch.arange(96).reshape(4, 24)


class Call(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize(("function", "x"), [
    (lambda x: x > 0.5, INTEGERS), (lambda x: x == 0.5, INTEGERS), (lambda x: x * 0.5, INTEGERS),
    (lambda x: x / 2, INTEGERS), (lambda x: x - 0.5, INTEGERS.to(torch.uint8)),
    (lambda x: x > 0.5, INTEGERS.to(torch.uint8)), (lambda x: x * 0.5, INTEGERS > 2),
    (lambda x: x * 2, INTEGERS > 2), (lambda x: x > 2, INTEGERS), (lambda x: x * 2, INTEGERS),
    (lambda x: x > 0.5, INTEGERS.double()), (lambda x: x * 0.5, INTEGERS.float()),
])  # fmt: skip
def test_whole_numbers_beside_a_fraction(function: Callable[..., Any], x: torch.Tensor) -> None:
    exact(Call(function), x, training=False)


@pytest.mark.parametrize("function", [
    lambda x: x.index_add(0, torch.tensor([0]), torch.ones(1, 3, 8)),
    lambda x: torch.zeros(4, 8).index_add_(0, torch.tensor([1]), x[:1, :5]),
    lambda x: x.index_add(1, torch.tensor([0]), torch.ones(3, 1)),
    lambda x: (y := x + 1).index_add_(0, torch.tensor([2]), y[:1]),
    lambda x: (y := x + 1)[1:].index_add_(0, torch.tensor([2]), y[3:]),
    lambda x: torch.zeros(2, 4, 8).index_add(-1, torch.tensor([0]), x[None, :, :1]),
])  # fmt: skip
def test_sums_at_positions_of_another_shape_are_refused(function: Callable[..., Any]) -> None:
    x = torch.rand(4, 8)
    with pytest.raises(RuntimeError):
        function(x)
    with pytest.raises(ModelError, match=r"shape|single memory location"):
        tg.analyze(Call(function), input_data=(x,), real_run=False)


def test_sums_at_positions_that_fit_are_not() -> None:
    index = torch.tensor([0, 2])
    for function in (
        lambda x: x.index_add(0, index, x[:2]), lambda x: x.index_add(-1, index, x[:, :2]),
        lambda x: x.index_add_(1, index, x[:, :2]),
        lambda x: x[2:].index_add_(0, index[:1], x[:1]),
        lambda x: x[:, 0].index_add(0, index, x[:2, 0]),
    ):  # fmt: skip
        assert function(torch.rand(4, 8)) is not None
        assert tg.analyze(Call(function), input_data=(torch.rand(4, 8),)).failure is None
