"""What operators hold that PyTorch makes of others: to the byte, as the profiler sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torchgauge as tg
from real_step import predicted_peak, real_peak

Case = tuple[Callable[..., Any], tuple[torch.Tensor, ...]]


class Of(nn.Module):
    """A function of a parameter's double, so that the input is there only for it."""

    def __init__(self, function: Callable[..., Any], weight: torch.Tensor) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(weight)

    def forward(self, *rest: torch.Tensor) -> Any:
        return self.function(self.weight * 1, *rest)


def points(*shapes: tuple[int, ...], p: float = 2.0) -> Case:
    return lambda x, y: torch.cdist(x, y, p=p), tuple(torch.randn(shape) for shape in shapes)


def drawn(count: int, *, replacement: bool = False) -> Case:
    return lambda x: torch.multinomial(x.softmax(1), count, replacement), (torch.randn(64, 500),)


def resized(**how: Any) -> Case:
    how = {"mode": "bilinear", **how}
    return lambda x: F.interpolate(x, antialias=True, **how), (torch.randn(2, 3, 32, 32),)


def grid(*shape: int) -> Case:
    sides = len(shape) - 2
    theta = torch.randn(shape[0], sides, sides + 1)
    return lambda x: F.affine_grid(x, list(shape), align_corners=False), (theta,)


def chosen(*mask: int) -> Case:
    return lambda x: x.masked_select(torch.ones(mask, dtype=torch.bool)), (torch.randn(64, 50),)


def averaged(reduce: str) -> Case:
    index = torch.arange(200) % 64
    return (
        lambda x, i: torch.zeros(64, 50).index_reduce(0, i, x, reduce),  # type: ignore[call-arg]
        (torch.randn(200, 50), index),
    )


def of(function: Callable[[torch.Tensor], Any], *shape: int) -> Case:
    return function, (torch.randn(shape),)


CASES: dict[str, Case] = {
    "distances": points((64, 50), (80, 50)),
    "distances of batches": points((2, 64, 8), (2, 80, 8)),
    "distances, one set for all": points((3, 64, 8), (80, 8)),
    "distances from one point": points((1000, 64), (1, 64)),
    "distances to one point": points((1, 64), (1000, 64)),
    "distances of few points": points((20, 8), (20, 8)),
    "distances along the axes": points((64, 50), (80, 50), p=1.0),
    "grid": grid(2, 3, 32, 32),
    "grid in space": grid(2, 3, 8, 8, 8),
    "infinite": of(torch.isinf, 64, 50),
    "distance": (lambda x, y: torch.dist(x, y), (torch.randn(64, 50), torch.randn(50))),
    "means by index": averaged("mean"),
    "largest by index": averaged("amax"),
    "one drawn": drawn(1),
    "some drawn": drawn(5),
    "larger": resized(size=(48, 40)),
    "smaller": resized(size=(16, 20)),
    "smaller, of more pixels": resized(size=(16, 20), mode="bicubic"),
    "lines alone": resized(size=(32, 20)),
    "columns alone": resized(size=(20, 32)),
    "by a factor": resized(scale_factor=0.7),
    "corners kept": resized(scale_factor=0.3, mode="bicubic", align_corners=True),
    "median": of(torch.median, 64, 50),
    "median of numbers": of(torch.nanmedian, 64, 50),
    "third": of(lambda x: x.kthvalue(3, 1).values, 64, 50),
    "third of columns": of(lambda x: x.kthvalue(3, 0).values, 64, 50),
    "chosen": chosen(64, 50),
    "rows chosen": chosen(64, 1),
    "inverse": of(torch.linalg.inv, 32, 32),
    "inverses": of(torch.linalg.inv, 3, 16, 16),
    "singular values with vectors": of(torch.linalg.svd, 32, 32),
    "a smaller matrix of vectors": of(
        lambda x: torch.linalg.svd(x, full_matrices=False), 3, 48, 32
    ),
    "around means": of(lambda x: torch.normal(x, 1.0), 64, 50),
    "exponential": of(lambda x: torch.matrix_exp(x * 9), 32, 32),
    "exponentials": of(lambda x: torch.matrix_exp(x * 9), 3, 32, 32),
    "columns of pixels": of(lambda x: F.unfold(x, 3), 2, 3, 32, 32),
}


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize("name", CASES)
def test_an_inference_is_predicted_to_the_byte(name: str) -> None:
    function, (weight, *rest) = CASES[name]
    model = Of(function, weight)
    report = tg.analyze(model, input_data=tuple(rest))
    assert predicted_peak(report) == real_peak(model, *rest)


def largest(reduce: str, *, by_row: bool) -> Case:
    """The gradient goes to all that are as large, which are counted."""

    def function(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        start = torch.zeros(64, 50)
        if by_row:
            return start.index_reduce(0, rows, x, reduce)  # type: ignore[call-arg]
        return start.scatter_reduce(0, rows[:, None].expand(-1, 50), x, reduce)

    return function, (torch.randn(200, 50), torch.arange(200) % 64)


TRAINED: dict[str, Case] = {
    "chosen": chosen(64, 50),
    "rows chosen": chosen(64, 1),
    **{f"{kind} by element": largest(kind, by_row=False) for kind in ("amax", "amin", "mean")},
    **{f"{kind} by row": largest(kind, by_row=True) for kind in ("amax", "amin", "mean")},
    "some of a row": of(lambda x: x.gather(1, torch.zeros(64, 7, dtype=torch.int64)), 64, 50),
    "rows": of(lambda x: x.index_select(0, torch.arange(200) % 64), 64, 50),
}


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize("name", TRAINED)
def test_a_step_writes_where_pytorch_writes(name: str) -> None:
    """Gradients of selections are written into zeros, those of the largest are not."""
    function, (weight, *rest) = TRAINED[name]
    report = tg.analyze(
        Of(function, weight), input_data=tuple(rest), mode="training", optimizer="none"
    )
    assert predicted_peak(report) == real_peak(Of(function, weight), *rest, training=True)


@pytest.mark.parametrize("name", ["distances", "grid", "infinite", "distance", "means by index"])
def test_a_gpu_makes_them_of_the_same(name: str) -> None:
    """The code is the same; what is resized or sorted has kernels of its own there."""
    function, (weight, *rest) = CASES[name]
    with_it, bare = (
        tg.analyze(Of(made, weight), input_data=tuple(rest), device="T4")
        for made in (function, lambda x, *rest: x + 1)
    )
    assert with_it.memory is not None and bare.memory is not None
    workspace = with_it.memory.at_peak.get("workspace", 0)
    assert workspace >= weight.nbytes // 2 > bare.memory.at_peak.get("workspace", 0)
