"""Inputs, buffers and parameters that are views of one tensor: overlapping, expanded, pieces."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional

import torchgauge as tg
from real_step import bytes_there, predicted_peak, real_peak, storage_bytes
from torchgauge.errors import InputError

TRAINING = tg.Scenario(mode="training", optimizer="none")


class Steps(nn.Module):
    """How often a layer runs is read from the inputs, as from a mask or a length."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        steps = int(first.real.flatten()[0]) + 2 * int(second.real.flatten()[-1])
        for _ in range(steps):
            x = self.fc(x)
        return x


WHOLE = torch.tensor([3, 1, 2, 0, 4, 5])
LARGE = torch.arange(3_000_000)
COMPLEX = torch.tensor([3 + 5j, 1 + 2j])
VIEWS: dict[str, tuple[Any, Any, int]] = {
    "slices": (WHOLE[:2], WHOLE[2:5], 3 + 2 * 4),
    "slices of floats": (WHOLE.float()[:2], WHOLE.float()[2:5], 3 + 2 * 4),
    "slices of one float tensor": (*WHOLE.float().split(3)[:2], 3 + 2 * 5),
    "bool": (*torch.tensor([True, False, False, True]).split(2), 1 + 2 * 1),
    "rows of windows": (WHOLE.unfold(0, 3, 1)[1], WHOLE.unfold(0, 3, 1)[2], 1 + 2 * 4),
    "windows": (WHOLE.unfold(0, 3, 1), WHOLE.as_strided((2, 3), (1, 2)), 3 + 2 * 5),
    "expanded": (WHOLE[:1].expand(5), WHOLE[4][None, None].expand(2, 3), 3 + 2 * 4),
    "broadcast": (torch.broadcast_to(WHOLE[2], (4, 4)), WHOLE[None].expand(2, 6), 2 + 2 * 5),
    "transposed": (WHOLE.view(2, 3).t(), WHOLE.view(2, 3).t()[1], 3 + 2 * 4),
    "of a large tensor": (LARGE[7:9], LARGE[2:6], 7 + 2 * 5),
    "overlapping in a large tensor": (LARGE[4:9], LARGE[6:11].flip(0)[4:], 4 + 2 * 6),
    "the same twice": (WHOLE, WHOLE, 3 + 2 * 5),
    "of an array": (*torch.from_numpy(numpy.arange(4)).split(2), 0 + 2 * 3),
    "in another dtype": (LARGE[5:6].view(torch.int32), LARGE[4:6].view(torch.uint8)[:9], 5 + 2 * 5),
    "conjugate": (COMPLEX.conj(), COMPLEX.real, 3 + 2 * 1),
    "negative": (-(COMPLEX.conj().imag), COMPLEX.imag, 5 + 2 * 2),
    "lazily negative": (COMPLEX.real, (-COMPLEX).conj().imag, 3 + 2 * 2),
}


@pytest.mark.parametrize("name", VIEWS)
def test_values_are_read_where_they_are(name: str) -> None:
    """As many steps as the forward would really run, at any number of repetitions."""
    first, second, steps = VIEWS[name]
    kept = first.clone(), second.clone()
    x = torch.randn(1, 8)
    report = tg.analyze(Steps(), input_data=(x, first, second))
    assert report.execution == "simulated"
    assert report.totals.forward_macs == steps * 64
    assert bytes_there(report) == 72 * 4 + storage_bytes(x, first, second)
    assert torch.equal(first, kept[0]) and torch.equal(second, kept[1])


def test_what_lies_beside_a_known_view_is_not_known() -> None:
    """A view is small and known; the rest of its large storage is no number to decide on."""
    model, x = Steps(), torch.ones(1, 8)
    large = torch.arange(5_000_000)
    report = tg.analyze(model, input_data=(x, large[9:], large[:3]))
    assert report.execution == "real"  # in a simulation the large view has no values
    assert report.totals.forward_macs == (9 + 2 * 2) * 64


class Masked(nn.Module):
    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, attn_mask=self.mask)[0]


class Pieces(nn.Module):
    """Layers whose parameters are views of one flat tensor."""

    def __init__(self, flat: torch.Tensor) -> None:
        super().__init__()
        self.first = nn.Parameter(flat[:512].view(16, 32))
        self.bias = nn.Parameter(flat[512:528])
        self.second = nn.Parameter(flat[528:688].view(10, 16))
        self.register_buffer("scale", flat[528:688].view(10, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(functional.linear(x, self.first, self.bias))
        return functional.linear(x, self.second) * self.scale.sum()


class Product(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ self.weight)


SQUARE = torch.randn(32, 32)
MODELS: dict[str, tuple[nn.Module, Any]] = {
    "expanded mask": (Masked(torch.zeros(1, 5).expand(5, 5)), torch.randn(2, 5, 16)),
    "broadcast bool mask": (
        Masked(torch.broadcast_to(torch.zeros(5, dtype=torch.bool), (5, 5))),
        torch.randn(2, 5, 16),
    ),
    "pieces of a flat tensor": (Pieces(torch.randn(700)), torch.randn(4, 32)),
    "expanded input": (Product(torch.randn(32, 8)), torch.randn(1, 32).expand(64, 32)),
    "expanded columns": (Product(torch.randn(32, 8)), torch.randn(64, 1).expand(64, 32)),
    "rows of a large input": (Product(torch.randn(32, 8)), torch.randn(999, 32)[5:9]),
    "every other column": (Product(torch.randn(32, 8)), torch.randn(16, 64)[:, ::2]),
    "transposed input": (Product(torch.randn(32, 8)), torch.randn(32, 16).t()),
    "expanded weight": (Product(torch.randn(1, 32).expand(32, 32)), torch.randn(8, 32)),
    "input that is the weight": (Product(SQUARE), SQUARE[2:9]),
    "input of no elements": (Product(torch.randn(32, 8)), torch.randn(9, 32)[4:4]),
    "negative view": (
        Product(torch.randn(32, 8)),
        torch.randn(16, 32, dtype=torch.complex64).conj().imag,
    ),
}


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", MODELS)
def test_peaks_are_those_of_a_real_step(
    name: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage counts once and whole; an operand that BLAS does not take is copied."""
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)  # as in an analysis
    model, x = MODELS[name]
    report = tg.analyze(model, input_data=(x,), scenario=TRAINING if training else None)
    assert report.execution == "simulated"
    assert bytes_there(report) == storage_bytes(model, x)
    assert predicted_peak(report) == real_peak(model, x, training=training)


def test_pieces_and_expanded_parameters_are_counted_apart() -> None:
    pieces = tg.analyze(Pieces(torch.randn(700)), input_data=(torch.randn(4, 32),)).totals
    assert pieces.params == 512 + 16 + 160
    expanded = tg.analyze(Product(SQUARE[:1].expand(32, 32)), input_data=(SQUARE,)).totals
    assert (expanded.params, expanded.param_bytes) == (32 * 32, 32 * 4)


def test_views_with_other_steps_are_other_parameters() -> None:
    model, flat = nn.Module(), torch.randn(10)
    model.near, model.far = nn.Parameter(flat[:5]), nn.Parameter(flat[::2])
    model.again = nn.Parameter(flat[:5])
    assert tg.analyze(model).totals.params == 10


@pytest.mark.parametrize("values", [False, True], ids=["simulated", "real"])
def test_a_cast_view_is_a_tensor_of_its_own(values: bool) -> None:
    """As ``module.to`` and ``tensor.to`` make them: without what lies beside it."""

    class Model(Product):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if values and float(x.sum()) > 1e9:
                return x
            return super().forward(x)

    x, flat = torch.randn(50, 32), torch.randn(9999)
    model = Model(flat[:256].view(32, 8))
    report = tg.analyze(model, input_data=(x[::2],), scenario=tg.Scenario(precision="bf16"))
    assert report.execution == ("real" if values else "simulated")
    assert bytes_there(report) == (25 * 32 + 256) * 2
    assert report.outputs[0].tensor is not None
    assert report.outputs[0].tensor.dtype == "bfloat16"


def test_a_bfloat16_model_keeps_its_ties_in_bfloat16() -> None:
    flat = torch.randn(9999).bfloat16()
    model = Pieces(flat)
    report = tg.analyze(model, (4, 32), scenario=tg.Scenario(precision="bf16"))
    assert report.memory is not None
    assert report.memory.parameter_bytes == 2 * 9999


def test_a_view_of_a_parameter_passes_gradients_on() -> None:
    """A plain attribute that was made of a parameter in ``__init__``, tied by hand."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8))
            self.half = self.weight[2:6]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.half.t()

    model, x = Tied(), torch.randn(5, 8)
    report = tg.analyze(model, input_data=(x,), scenario=TRAINING)
    assert (report.totals.forward_macs, report.totals.backward_flops) == (160, 320)
    assert predicted_peak(report) == real_peak(model, x, training=True)


FIRST = torch.arange(500_000)[3:5]
COLUMN = torch.arange(20).view(4, 5)[:, 1]


def test_values_of_global_views() -> None:
    """Constants that the forward reaches by itself, one of them a view of a large tensor."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(int(FIRST.sum()) + int(COLUMN[1])):
                x = self.fc(x)
            return x

    report = tg.analyze(Model(), (1, 8))
    assert report.execution == "simulated"
    assert report.totals.forward_macs == (7 + 6) * 64


def test_views_follow_what_is_written_into_each_other() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            a.zero_()
            for _ in range(int(b.sum())):
                x = self.fc(x)
            return x

    whole = torch.tensor([1, 2, 3, 4])
    report = tg.analyze(Model(), input_data=(torch.randn(1, 8), whole[:3], whole[1:]))
    assert report.totals.forward_macs == 4 * 64
    assert whole.tolist() == [1, 2, 3, 4]


def test_an_array_that_runs_backwards_is_refused() -> None:
    with pytest.raises(InputError, match="copy"):
        tg.analyze(nn.Linear(4, 2), input_data=(numpy.ones((3, 4), numpy.float32)[::-1],))
