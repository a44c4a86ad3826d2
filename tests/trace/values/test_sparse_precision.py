"""Sparse operands in half precision: under autocast, and in scenarios of a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from real_step import predicted_peak, real_peak
from torchgauge.errors import ModelError

pytestmark = pytest.mark.filterwarnings(
    "ignore:Sparse .* tensor support is in beta", "ignore:Sparse invariant checks"
)

N, D, STORED = 8, 8, 20

CALLS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "sparse.mm": torch.sparse.mm,
    "sparse.addmm": lambda a, x: torch.sparse.addmm(x, a, x),
    "addmm": lambda a, x: torch.addmm(x, a, x),
    "mm": torch.mm,
    "matmul": torch.matmul,
    "mv": lambda a, x: torch.mv(a, x[0]),
    "linear": lambda a, x: nn.functional.linear(x, a),
}
LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "coo": torch.Tensor.to_sparse_coo,
    "csr": torch.Tensor.to_sparse_csr,
    "csc": torch.Tensor.to_sparse_csc,
    "bsr": lambda dense: dense.to_sparse_bsr((1, 1)),
}


def dense() -> torch.Tensor:
    places = torch.randperm(N * N, generator=torch.Generator().manual_seed(0))[:STORED]
    return torch.zeros(N * N).index_fill(0, places, 2.0).view(N, N)


class Graph(nn.Module):
    """A dense layer, and a sparse matrix that multiplies what it returns."""

    def __init__(self, call: str, layout: str = "coo", *, islands: bool = False) -> None:
        super().__init__()
        self.register_buffer("adjacency", LAYOUTS[layout](dense()))
        self.layer = nn.Linear(D, D)
        self.call = CALLS[call]
        self.islands = islands

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.layer(x)
        if not self.islands:
            return self.call(self.adjacency, hidden)
        with torch.autocast("cpu", enabled=False):
            return self.call(self.adjacency, hidden.float())


def analyze(model: nn.Module, **scenario: Any) -> tg.Report:
    return tg.analyze(model, input_data=torch.rand(N, D), scenario=tg.Scenario(**scenario))


def expected_macs(call: str) -> int:
    return N * D * D + STORED * (1 if call == "mv" else D)


@pytest.mark.parametrize("call", CALLS)
def test_autocast_acts_inside_the_kernels_of_sparse_tensors(call: str) -> None:
    model = Graph(call)
    report = analyze(model, precision="bf16-autocast")
    assert report.totals.forward_macs == expected_macs(call)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        real = model(torch.rand(N, D))
    (output,) = report.outputs
    assert output.tensor is not None
    assert output.tensor.dtype == str(real.dtype).removeprefix("torch.")
    assert output.tensor.shape == tuple(real.shape)


@pytest.mark.parametrize("call", ["addmm", "mm", "matmul", "linear"])
def test_a_step_of_it_and_its_peak(call: str) -> None:
    class Region(Graph):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(x)

    report = analyze(Region(call), mode="training", optimizer="none")
    assert predicted_peak(report) == real_peak(Region(call), torch.rand(N, D), training=True)


@pytest.mark.parametrize("call", ["sparse.mm", "sparse.addmm", "mv"])
def test_what_pytorch_cannot_differentiate_there_fails_in_an_analysis_too(call: str) -> None:
    model = Graph(call)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(torch.rand(N, D)).sum()
    with pytest.raises(RuntimeError, match="expected scalar type Float but found BFloat16"):
        loss.backward()
    with pytest.raises(ModelError, match=r"backward.*expected scalar type Float but found BF"):
        analyze(model, mode="training", optimizer="none", precision="bf16-autocast")


@pytest.mark.parametrize("call", ["sparse.mm", "mv"])
def test_autocast_that_is_off_there_stays_off(call: str) -> None:
    report = analyze(Graph(call, islands=True), precision="bf16-autocast")
    assert report.outputs[0].tensor is not None
    assert report.outputs[0].tensor.dtype == "float32"


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp16-autocast", "bf16-autocast"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("call", ["sparse.mm", "addmm", "mv", "linear"])
def test_half_precision_for_a_gpu(call: str, layout: str, precision: str) -> None:
    report = analyze(Graph(call, layout), precision=precision, device="A100-SXM-40GB")
    assert report.totals.forward_macs == expected_macs(call)
    assert report.not_counted == ()
    assert report.outputs[0].tensor is not None
    assert report.outputs[0].tensor.dtype == (
        "float16" if precision.startswith("fp16") else "bfloat16"
    )
    in_float32 = any("were computed in float32" in text for text in report.assumptions)
    assert in_float32 == (layout != "coo")


def test_a_training_step_in_half_precision_for_a_gpu() -> None:
    report = analyze(Graph("sparse.mm", "csr"), mode="training", optimizer="none",
                     precision="fp16", device="T4")  # fmt: skip
    assert report.totals.backward_flops == 2 * (N * D * D + STORED * D)


@pytest.mark.parametrize("layout", ["csr", "csc", "bsr"])
def test_what_the_cpu_lacks_is_said(layout: str) -> None:
    with pytest.raises(ModelError, match="not implemented for 'BFloat16'") as caught:
        analyze(Graph("sparse.mm", layout), precision="bf16")
    assert "only in float32 and float64" in str(caught.value)


def test_operators_that_autocast_does_not_know_fail_as_in_pytorch() -> None:
    model = Graph("sparse.mm")
    model.call = torch.hspmm
    with pytest.raises(ModelError, match="expected scalar type Float but found BFloat16"):
        analyze(model, precision="bf16-autocast")
