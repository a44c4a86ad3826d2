"""Matrices of a decomposition lie in memory as the CPU's kernels write them, by columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import torchgauge as tg

DECOMPOSITIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "svd": lambda a: torch.linalg.svd(a),
    "thin svd": lambda a: torch.linalg.svd(a, full_matrices=False),
    "eig": lambda a: torch.linalg.eig(a @ a.mT),
    "eigh": lambda a: torch.linalg.eigh(a @ a.mT),
    "qr": lambda a: torch.linalg.qr(a),
    "lu": lambda a: torch.linalg.lu(a),
    "singular values": lambda a: (torch.linalg.svdvals(a),),
}


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (2, 5, 5)])
@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_strides_are_those_of_the_cpu(name: str, shape: tuple[int, ...]) -> None:
    real = DECOMPOSITIONS[name](torch.randn(shape))
    with tg.meta_construction():
        made = DECOMPOSITIONS[name](torch.randn(shape))
    for one, other in zip(made, real, strict=True):
        assert (one.shape, one.stride()) == (other.shape, other.stride())


def test_a_few_rows_of_singular_vectors_are_a_copy() -> None:
    """What PSOFT and OSF keep of a weight."""
    with tg.meta_construction():
        rows = torch.linalg.svd(torch.randn(64, 64))[2][:4].contiguous()
    assert rows.untyped_storage().nbytes() == 4 * 64 * 4
