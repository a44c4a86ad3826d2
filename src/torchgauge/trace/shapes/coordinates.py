"""Operators on COO tensors of the meta device, of which it is known how many elements they store.

PyTorch has no kernels for them. What is made here has as many elements as in a real run; what the
kernels take for themselves is left out. Sources: ``sparse_mask``, ``SparseTensorMath.cpp`` and
``SparseTensor.cpp`` below ``aten/src/ATen/native/sparse``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from torchgauge.trace.inspect.irregular import is_coordinates, sparse_over
from torchgauge.trace.shapes.rule import Args, made
from torchgauge.trace.torch_internals.tensors import coordinate_parts

ValuesOf: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""Returns the real values of indices, or raises ``DataDependentError``."""

BASES = frozenset(("_coalesce", "sparse_mask", "_to_dense"))


def answer(base: str, args: Args, values_of: ValuesOf) -> Any:
    """Return what an operator makes, ``NotImplemented`` where no COO tensor is among ``args``."""
    sparse = args[1] if base == "sparse_mask" else args[0]
    if not is_coordinates(sparse):
        return NotImplemented
    indices, values = coordinate_parts(sparse)
    if base == "_to_dense":
        return made(sparse.shape, sparse.dtype)
    if base == "sparse_mask":
        return sparse_over(
            sparse, [made(indices.shape, indices.dtype)], made(values.shape, args[0].dtype)
        )
    count = values_of(indices).unique(dim=1).shape[1]
    shape = (count, *values.shape[1:])
    parts = made((indices.shape[0], count), indices.dtype), made(shape, values.dtype)
    return torch.sparse_coo_tensor(*parts, sparse.shape, is_coalesced=True, check_invariants=False)
