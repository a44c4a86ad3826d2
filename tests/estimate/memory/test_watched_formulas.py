"""Formulas that PyTorch runs otherwise while a mode watches, and what linear algebra works in.

Peaks are those of the profiler: to the byte, but for the arrays that LAPACK asks for.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.func import grad, jacfwd, jvp, vmap
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import torchgauge as tg
from real_step import predicted_peak, real_peak

Case = tuple[Callable[[torch.Tensor], torch.Tensor], tuple[int, ...]]
linalg = torch.linalg


class Of(nn.Module):
    """A function of a parameter."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], *shape: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.weight = function, nn.Parameter(torch.randn(shape))

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.function(self.weight)


def symmetric(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT + torch.eye(x.shape[-1])


def perceptron(x: torch.Tensor) -> torch.Tensor:
    weight, bias = torch.ones(64, x.shape[-1]), torch.ones(64)
    return F.linear(x, weight, bias).tanh()


PRODUCTS: dict[str, Case] = {
    "of all": (lambda x: x.prod(), (200, 300)),
    "along": (lambda x: x.prod(1), (200, 300)),
    "kept": (lambda x: x * x.prod(1, keepdim=True), (200, 300)),
    "of whole numbers": (lambda x: (x * 3).int().prod(1) * x.sum(), (200, 300)),
    "running": (lambda x: x.cumprod(1), (200, 300)),
    "running down": (lambda x: x.sin().cumprod(0).cos(), (200, 300)),
    "transmittance": (
        lambda x: torch.cat([torch.ones(200, 1), 1 - x.sigmoid()], 1).cumprod(1)[:, :-1],
        (200, 300),
    ),
    "checkpoint": (
        lambda x: checkpoint(lambda y: y.sin().cumprod(0).cos(), x, use_reentrant=False),
        (200, 300),
    ),
    "under vmap": (lambda x: vmap(lambda y: y.cumprod(0))(x), (200, 300)),
    "under grad": (lambda x: grad(lambda y: y.cumprod(0).sum())(x), (20, 30)),
    "forward mode": (lambda x: jvp(lambda y: y.cumprod(0), (x,), (x,))[1], (200, 300)),
}
SUMS: dict[str, Case] = {
    "variance and mean": (lambda x: torch.cat(torch.var_mean(x, 1)), (200, 300)),
    "deviation and mean": (lambda x: torch.cat(torch.std_mean(x, 1)), (200, 300)),
    "standardised": (
        lambda x: (
            (x - torch.var_mean(x, 1, keepdim=True)[1]) / torch.var_mean(x, 1, keepdim=True)[0]
        ),
        (200, 300),
    ),
    "one place": (lambda x: x.sin() * x.sin(), (200, 300)),
    "several places": (lambda x: x.sin() + x.cos() * x.exp(), (200, 300)),
    "squares": (lambda x: (x * 2) * (x * 2), (200, 300)),
    "factor": (lambda x: linalg.cholesky(symmetric(x)), (100, 100)),
}
FORWARD: dict[str, Case] = {
    "tangent": (lambda x: jvp(perceptron, (x,), (torch.ones_like(x),))[1], (200, 16)),
    "trace of a Jacobian": (
        lambda x: vmap(jacfwd(perceptron))(x).diagonal(dim1=-2, dim2=-1).sum(-1), (64, 16)
    ),
}  # fmt: skip
MATRICES: dict[str, Case] = {
    "eigh": (lambda x: linalg.eigh(symmetric(x))[1], (200, 200)),
    "eigh of several": (lambda x: linalg.eigh(symmetric(x))[1], (5, 100, 100)),
    "eigvalsh": (lambda x: linalg.eigvalsh(symmetric(x)), (200, 200)),
    "eig": (lambda x: linalg.eig(x)[0].abs(), (100, 100)),
    "eig of many": (lambda x: linalg.eig(x.double())[0].abs(), (4, 150, 150)),
    "eig of few": (lambda x: linalg.eig(x.double())[0].abs(), (100, 100)),
    "eigvals": (lambda x: linalg.eigvals(x).abs(), (100, 100)),
    "svd": (lambda x: linalg.svd(x, full_matrices=False)[1], (200, 100)),
    "svdvals": (lambda x: linalg.svdvals(x), (200, 100)),
    "condition": (lambda x: linalg.cond(x), (200, 200)),
    "spectral norms": (lambda x: linalg.norm(x, 2, dim=(-2, -1)), (2000, 5, 5)),
    "nuclear norm": (lambda x: linalg.norm(x, "nuc"), (200, 200)),
    "qr": (lambda x: linalg.qr(x)[1], (200, 100)),
    "qr of wide": (lambda x: linalg.qr(x)[1], (100, 200)),
    "least squares": (lambda x: linalg.lstsq(x, x.sin())[0], (200, 100)),
    "lu": (lambda x: linalg.lu(x)[1], (200, 200)),
    "lu of several": (lambda x: linalg.lu(x)[1], (4, 100, 60)),
    "pinv": (lambda x: linalg.pinv(x), (200, 200)),
    "pinv of several": (lambda x: linalg.pinv(x), (8, 100, 50)),
    "pinv of symmetric": (lambda x: linalg.pinv(symmetric(x), hermitian=True), (150, 150)),
}
COPIES: dict[str, Case] = {
    "fold of another order": (
        lambda x: F.fold(x.transpose(1, 2), (32, 32), 3, padding=1), (2, 1024, 90)
    ),
    "fold": (lambda x: F.fold(x, (32, 32), 3, padding=1), (2, 90, 1024)),
    "unfold of another order": (lambda x: F.unfold(x.transpose(2, 3), 3), (2, 10, 32, 40)),
    "triangle of expanded": (lambda x: x.expand(20, 100, 100).tril(), (100, 100)),
    "triangle of transposed": (lambda x: x.mT.triu(), (8, 100, 100)),
    "triangle of another order": (lambda x: x.transpose(0, 1).tril(), (4, 8, 50, 50)),
}  # fmt: skip
CHOSEN: dict[str, Case] = {
    "means": (
        lambda x: x.scatter_reduce(0, torch.zeros(200, 300, dtype=torch.long), x.sin(), "mean"),
        (200, 300),
    ),
    "means by rows": (
        lambda x: x.scatter_reduce(
            0, torch.arange(200)[:, None].expand(200, 300), x.sin(), "mean"
        ),
        (200, 300),
    ),
    "largest": (
        lambda x: x.scatter_reduce(0, torch.zeros(200, 300, dtype=torch.long), x.sin(), "amax"),
        (200, 300),
    ),
    "scattered by a mask": (lambda x: x.masked_scatter(x > 0, x.flip(0)), (200, 300)),
    "scattered by a mask of rows": (
        lambda x: x.masked_scatter((torch.arange(200) < 20)[:, None], x[:40].sin()), (200, 300)
    ),
    "selected": (
        lambda x: x[:200].masked_select(torch.ones(200, 300).tril().bool()), (400, 300)
    ),
    "selected in another order": (
        lambda x: x[:, :200].masked_select(torch.ones(200, 200).tril().bool()), (200, 300)
    ),
}  # fmt: skip
UNIQUE: dict[str, Case] = {
    "values": (lambda x: torch.unique((x * 10).long()) + 0 * x.sum(), (200, 300)),
    "of 32 bits": (lambda x: torch.unique((x * 10).int()) + 0 * x.sum(), (200, 300)),
    "places": (
        lambda x: x.flatten()[torch.unique((x * 10).long(), return_inverse=True)[1]], (200, 300)
    ),
    "counts": (
        lambda x: torch.unique((x * 10).long(), return_counts=True)[1] * x.sum(), (200, 300)
    ),
    "rows": (lambda x: torch.unique((x * 10).long(), dim=0) + 0 * x.sum(), (200, 30)),
}  # fmt: skip
both = pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])


def peaks(case: Case, training: bool, execution: str = "simulated") -> tuple[int, int]:
    model, x = Of(case[0], *case[1]), torch.zeros(1)
    scenario = tg.Scenario(mode="training", optimizer="none") if training else tg.Scenario()
    report = tg.analyze(model.train(training), input_data=(x,), scenario=scenario)
    assert report.execution == execution
    return predicted_peak(report), real_peak(model, x, training=training)


@both
@pytest.mark.parametrize("case", [*PRODUCTS.values()], ids=[*PRODUCTS])
def test_products_of_numbers_other_than_zero(case: Case, training: bool) -> None:
    predicted, real = peaks(case, training)
    assert predicted == real


def test_that_no_number_is_zero_is_an_assumption() -> None:
    scenario = tg.Scenario(mode="training", optimizer="none")
    for name, is_said in (("running", True), ("of whole numbers", False)):
        model = Of(PRODUCTS[name][0], *PRODUCTS[name][1])
        report = tg.analyze(model, input_data=(torch.zeros(1),), scenario=scenario)
        assert any("other than zero" in text for text in report.assumptions) is is_said


@pytest.mark.parametrize("case", [*SUMS.values()], ids=[*SUMS])
def test_sums_within_a_formula_are_new_tensors(case: Case) -> None:
    predicted, real = peaks(case, training=True)
    assert predicted == pytest.approx(real, rel=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is (deprecated|not supported)")
@pytest.mark.parametrize("case", [*FORWARD.values()], ids=[*FORWARD])
def test_meta_kernels_hold_nothing(case: Case) -> None:
    predicted, real = peaks(case, training=False)
    assert predicted == pytest.approx(real, rel=0.02)


def test_primitives_of_the_model_count() -> None:
    """PyTorch tags them as element-wise, with other dtypes than an element-wise rule gives."""
    prims = torch.ops.prims

    def squares(x: torch.Tensor) -> torch.Tensor:
        wide = prims.convert_element_type(x, torch.float64)
        return prims.exp(prims.mul(wide, wide))  # type: ignore[no-any-return]

    predicted, real = peaks((squares, (200, 300)), training=False)
    assert predicted == real


@both
@pytest.mark.parametrize("case", [*MATRICES.values()], ids=[*MATRICES])
def test_linear_algebra(case: Case, training: bool) -> None:
    predicted, real = peaks(case, training)
    assert predicted == pytest.approx(real, rel=0.01)


@both
@pytest.mark.parametrize("case", [*COPIES.values()], ids=[*COPIES])
def test_contiguous_copies(case: Case, training: bool) -> None:
    predicted, real = peaks(case, training)
    assert predicted == real


@both
@pytest.mark.parametrize("case", [*CHOSEN.values()], ids=[*CHOSEN])
def test_masks_and_indices(case: Case, training: bool) -> None:
    predicted, real = peaks(case, training)
    assert predicted == pytest.approx(real, rel=0.02)


@both
@pytest.mark.parametrize("case", [*UNIQUE.values()], ids=[*UNIQUE])
def test_unique_values_are_sorted(case: Case, training: bool) -> None:
    predicted, real = peaks(case, training, execution="real")
    assert predicted == real
