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

BASES = frozenset(("_coalesce", "sparse_mask", "_to_dense", "t", "mm", "_sparse_addmm"))


def answer(base: str, args: Args, values_of: ValuesOf) -> Any:
    """Return what an operator makes, ``NotImplemented`` where no COO tensor is among ``args``."""
    tensors = [value for value in args if isinstance(value, torch.Tensor)]
    found = next((tensor for tensor in tensors if is_coordinates(tensor)), None)
    if found is None:
        return NotImplemented
    if base == "sparse_mask":  # (any tensor, a sparse one): elements where the second has some
        indices, values = coordinate_parts(args[1])
        return sparse_over(args[1], [indices], made(values.shape, args[0].dtype))
    indices, values = coordinate_parts(found)
    if base == "_coalesce":
        count = values_of(indices).unique(dim=1).shape[1]
        parts = made((indices.shape[0], count), indices.dtype), made((count,), values.dtype)
        return torch.sparse_coo_tensor(
            *parts, found.shape, is_coalesced=True, check_invariants=False
        )
    if base == "t":
        parts = made(indices.shape, indices.dtype), made(values.shape, values.dtype)
        return torch.sparse_coo_tensor(*parts, found.shape[::-1], check_invariants=False)
    if base == "_to_dense":
        return made(found.shape, found.dtype)
    rows, columns = tensors[-2].shape[0], tensors[-1].shape[1]
    return NotImplemented if is_coordinates(tensors[-1]) else made((rows, columns), found.dtype)
