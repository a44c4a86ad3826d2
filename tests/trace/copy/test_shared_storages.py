"""Bytes of parameters and buffers beside the memory that their storages take."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import torchgauge as tg


class Holds(nn.Module):
    """Returns its input; what it holds is the point."""

    def __init__(self, *, parameters: list[torch.Tensor], buffers: list[torch.Tensor]) -> None:
        super().__init__()
        for index, tensor in enumerate(parameters):
            self.register_parameter(f"p{index}", nn.Parameter(tensor))
        for index, tensor in enumerate(buffers):
            self.register_buffer(f"b{index}", tensor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def of_a_large_storage() -> nn.Module:
    return Holds(parameters=[torch.zeros(1000, 100)[:10]], buffers=[])


def buffers_that_overlap() -> nn.Module:
    whole = torch.zeros(100, 100)
    return Holds(parameters=[], buffers=[whole[:50], whole[25:]])


def flat_with_its_pieces() -> nn.Module:
    flat = torch.zeros(10100)
    return Holds(parameters=[flat, flat[:10000].view(100, 100), flat[10000:]], buffers=[])


def buffer_of_a_parameter() -> nn.Module:
    whole = torch.zeros(100, 100)
    return Holds(parameters=[whole], buffers=[whole[:50]])


def pieces_of_one() -> nn.Module:
    whole = torch.zeros(5000)
    return Holds(parameters=[whole[i * 100 : (i + 1) * 100] for i in range(5)], buffers=[])


@pytest.mark.parametrize(
    ("build", "note"),
    [
        (of_a_large_storage, "parameters: 4,000 bytes of elements, 400,000 {} (views: p0)"),
        (buffers_that_overlap, "buffers: 50,000 bytes of elements, 40,000 {} (views: b0, b1)"),
        (flat_with_its_pieces, "parameters: 80,800 bytes of elements, 40,400 {} (views: p1, p2)"),
        (buffer_of_a_parameter, "buffers: 20,000 bytes of elements, 0 {} (views: b0)"),
        (
            pieces_of_one,
            "parameters: 2,000 bytes of elements, 20,000 {} (views: p0, p1, p2 and 2 more)",
        ),
    ],
)
def test_a_difference_is_stated_with_its_cause(build: Callable[[], nn.Module], note: str) -> None:
    report = tg.analyze(build(), (4, 100))
    note = note.format("bytes in memory, where a storage counts once and whole")
    assert note in report.assumptions
    own, memory = (
        int(part.replace(",", "")) for part in note.split(" (")[0].split() if part[0].isdigit()
    )
    assert report.memory is not None
    if note.startswith("parameters"):
        assert (report.totals.param_bytes, report.memory.parameter_bytes) == (own, memory)
    else:
        assert (report.totals.buffer_bytes, report.memory.buffer_bytes) == (own, memory)


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Linear(100, 100),
        lambda: nn.BatchNorm1d(100),
        lambda: Holds(parameters=[], buffers=[torch.zeros(1, 100).expand(50, 100)]),
        lambda: Holds(parameters=[], buffers=[torch.zeros(8).view(2, 4)]),
    ],
)
def test_tensors_with_storages_of_their_own_need_no_note(build: Callable[[], nn.Module]) -> None:
    report = tg.analyze(build(), (4, 100))
    assert report.memory is not None
    assert report.totals.param_bytes == report.memory.parameter_bytes
    assert report.totals.buffer_bytes == report.memory.buffer_bytes
    assert not any("bytes of elements" in note for note in report.assumptions)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_indices_of_a_sparse_buffer_may_be_views() -> None:
    """``to_sparse_csr`` keeps the columns in what ``nonzero`` returned."""
    report = tg.analyze(Holds(parameters=[], buffers=[torch.eye(100).to_sparse_csr()]), (4, 100))
    assert report.memory is not None
    if report.totals.buffer_bytes != report.memory.buffer_bytes:
        (note,) = (note for note in report.assumptions if "bytes of elements" in note)
        assert note.startswith(f"buffers: {report.totals.buffer_bytes:,} bytes of elements")


def test_packed_weights_are_parameters_in_memory_too() -> None:
    class Packed(nn.Module):
        """Keeps four-bit weights as GPTQ does."""

        def __init__(self) -> None:
            super().__init__()
            self.in_features, self.out_features = 64, 32
            self.register_buffer("qweight", torch.zeros(8, 32, dtype=torch.int32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    report = tg.analyze(Packed(), (4, 64))
    assert report.memory is not None
    assert report.totals.param_bytes == report.memory.parameter_bytes == 8 * 32 * 4
    assert report.totals.buffer_bytes == report.memory.buffer_bytes == 0
