"""Sparse operands: what is really multiplied, and the bytes of a real step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import torchgauge as tg
from real_step import bytes_there, predicted_peak, real_peak, storage_bytes
from torchgauge.errors import ModelError

pytestmark = pytest.mark.filterwarnings(
    "ignore:Sparse .* tensor support is in beta", "ignore:Sparse invariant checks"
)

N, D = 40, 6
TRAINING = tg.Scenario(mode="training", optimizer="none")


def coo(stored: int = 90, *, coalesced: bool = True) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    places = torch.randperm(N * N, generator=generator)[:stored]
    indices = torch.stack([places // N, places % N])
    made = torch.sparse_coo_tensor(indices, torch.rand(stored), (N, N))
    return made.coalesce() if coalesced else made


class Of(nn.Module):
    """A function with a dense parameter."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(N, D))

    def forward(self, *args: Any) -> Any:
        return self.function(self.weight, *args)


def product(weight: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    return a @ weight


def linear(weight: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    return functional.linear(a, weight.t())


def blocks() -> torch.Tensor:
    """Two filled elements in each of ten blocks of 4 × 4, whose zeros are stored as well."""
    dense = torch.zeros(N, N)
    for block in range(N_BLOCKS):
        dense[4 * block, 4 * block] = dense[4 * block + 1, 4 * block + 2] = 1.0
    return dense.to_sparse_bsr((4, 4))


N_BLOCKS = 10
X, ROWS = torch.randn(N, D), torch.randn(5, N)
MEMBERS: dict[str, tuple[Callable[..., Any], Callable[[], tuple[Any, ...]], int]] = {
    "COO": (product, lambda: (coo(),), 90 * D),
    "COO with repeated elements": (product, lambda: (coo(coalesced=False),), 90 * D),
    "CSR": (product, lambda: (coo().to_sparse_csr(),), 90 * D),
    "CSC": (product, lambda: (coo().to_sparse_csc(),), 90 * D),
    "BSR": (product, lambda: (blocks(),), 16 * N_BLOCKS * D),
    "linear of COO": (linear, lambda: (coo(),), 90 * D),
    "linear of CSR": (linear, lambda: (coo().to_sparse_csr(),), 90 * D),
    "sparse weight": (
        lambda w, x, a: functional.linear(x, a), lambda: (ROWS, coo().to_sparse_csr()), 5 * 90,
    ),
    "transposed": (lambda w, a: a.t() @ w, lambda: (coo(),), 90 * D),
    "sparse.mm": (lambda w, a: torch.sparse.mm(a, w), lambda: (coo(),), 90 * D),
    "addmm": (lambda w, a: torch.sparse.addmm(w, a, w), lambda: (coo(),), 90 * D),
    "dense times sparse": (lambda w, x, a: x @ a, lambda: (ROWS, coo()), 5 * 90),
    "vector": (lambda w, a: a @ w[:, 0], lambda: (coo().to_sparse_csr(),), 90),
    "batch": (
        lambda w, a: torch.bmm(a, w.expand(2, N, D)),
        lambda: (torch.stack([coo(), coo()]),),
        2 * 90 * D,
    ),
    "sampled": (
        lambda w, a: torch.sparse.sampled_addmm(a, w, w.t()).values(),
        lambda: (coo().to_sparse_csr(),),
        90 * D,
    ),
    "made in the forward": (
        lambda w, i, v: torch.sparse_coo_tensor(i, v, (N, N)) @ w,
        lambda: (coo().indices(), coo().values()),
        90 * D,
    ),
    "of a dense one": (
        lambda w, x: x.relu().to_sparse() @ w, lambda: (coo().to_dense(),), 90 * D,
    ),
    "element-wise": (lambda w, a: (a.relu() * 2).to_dense(), lambda: (coo(),), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", MEMBERS)
def test_stored_elements_are_multiplied(name: str) -> None:
    """``stored · columns``; a peak and what is there before, to the byte."""
    function, inputs, macs = MEMBERS[name]
    model, args = Of(function), inputs()
    report = tg.analyze(model, input_data=args)
    assert report.execution == "real"
    assert report.totals.forward_macs == macs
    assert not report.not_counted
    assert bytes_there(report) == storage_bytes(model, args)
    assert predicted_peak(report) == real_peak(model, *args)
    assert not any("accelerator" in text for text in report.assumptions)


@pytest.mark.parametrize("name", ["COO", "CSR", "linear of COO", "sparse.mm"])
def test_gradients_multiply_stored_elements_too(name: str) -> None:
    """Of a dense factor: the transposed sparse one times the gradient."""
    function, inputs, macs = MEMBERS[name]
    model, args = Of(function), inputs()
    report = tg.analyze(model, input_data=args, scenario=TRAINING)
    assert (report.totals.forward_macs, report.totals.backward_flops) == (macs, 2 * macs)
    assert predicted_peak(report) == real_peak(model, *args, training=True)


def test_two_sparse_factors_count_the_elements_that_meet() -> None:
    first, second = coo(), coo(50)
    meetings = sum(
        int((first.indices()[1] == k).sum() * (second.indices()[0] == k).sum()) for k in range(N)
    )
    for a, b in ((first, second), (first.to_sparse_csr(), second.to_sparse_csr())):
        report = tg.analyze(Of(lambda w, a, b: torch.sparse.mm(a, b)), input_data=(a, b))
        assert report.totals.forward_macs == meetings
        assert not report.not_counted


def test_sparse_buffers_and_attributes() -> None:
    """The adjacency of a graph layer: as a buffer, and as a plain attribute."""

    class Graph(nn.Module):
        def __init__(self, adjacency: torch.Tensor, *, registered: bool) -> None:
            super().__init__()
            self.layer = nn.Linear(D, 3, bias=False)
            if registered:
                self.register_buffer("adjacency", adjacency)
            else:
                self.adjacency = adjacency

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.adjacency @ self.layer(x)

    for adjacency in (coo(), coo().to_sparse_csr()):
        registered = Graph(adjacency, registered=True)
        report = tg.analyze(registered, (N, D))
        assert report.totals.forward_macs == N * D * 3 + 90 * 3
        assert report.memory is not None
        assert report.memory.buffer_bytes == storage_bytes(adjacency)
        assert predicted_peak(report) == real_peak(registered, X)
        plain = tg.analyze(Graph(adjacency, registered=False), (N, D))
        assert plain.totals.forward_macs == report.totals.forward_macs
        assert adjacency.values().numel() == 90  # as it was


class Tables(nn.Module):
    def __init__(self, uses: int) -> None:
        super().__init__()
        self.table = nn.Embedding(500, 16, sparse=True)
        self.head = nn.Linear(16, 4)
        self.uses = uses

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found = self.table(ids)
        for _ in range(self.uses - 1):
            found = found + self.table(ids.flip(0))
        return self.head(found.mean(1))


@pytest.mark.parametrize(("uses", "execution"), [(1, "simulated"), (2, "real")])
def test_sparse_gradients_of_an_embedding(uses: int, execution: str) -> None:
    """Indices and values of the rows looked up; two of one table are added, for real."""
    ids = torch.randint(500, (60, 5))
    model = Tables(uses)
    report = tg.analyze(model, input_data=(ids,), scenario=TRAINING)
    assert report.execution == execution
    assert predicted_peak(report) == real_peak(model, ids, training=True)


def test_sparse_adam_updates_the_rows_that_were_looked_up() -> None:
    """Its step takes the real gradients of one row each: the indices say how many there are."""
    ids = torch.randint(500, (60, 5))
    model = Tables(1)
    model.head.requires_grad_(False)
    scenario = tg.Scenario(mode="training", optimizer="torch.optim:SparseAdam")
    memory = tg.analyze(model, input_data=(ids,), scenario=scenario).memory
    assert memory is not None
    assert memory.optimizer_bytes == 2 * model.table.weight.nbytes


def test_a_sparse_gradient_counts_as_one() -> None:
    ids = torch.randint(500, (60, 5))
    scenario = tg.Scenario(mode="training", optimizer="sgd")
    memory = tg.analyze(Tables(1), input_data=(ids,), scenario=scenario).memory
    assert memory is not None
    assert memory.gradient_bytes == 60 * 5 * 16 * 4 + (16 * 4 + 4) * 4  # indices are the input's


def test_which_accelerators_have_a_kernel_is_no_accelerator_in_the_model() -> None:
    """A failed operator's message lists every backend; the model names none of them."""
    with pytest.raises(ModelError) as failed:
        tg.analyze(Of(product), input_data=(blocks().t(),))
    assert "CUDA device" not in str(failed.value)
    partial = failed.value.report
    assert partial is not None
    assert not any("accelerator" in text for text in partial.assumptions)
