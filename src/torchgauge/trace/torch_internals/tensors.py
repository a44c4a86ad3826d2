"""Tensors: their storages, views, wrappers, and the parts of sparse and nested ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def storage_key(storage: torch.UntypedStorage) -> int:
    """Return the address of the storage's C++ object: unique while it lives (2.6–2.13)."""
    key: int = storage._cdata
    return key


def without_transforms(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor that ``vmap``, ``grad`` and the like of ``torch.func`` have wrapped.

    What they wrap has a shape and no storage. ``torch._C._functorch``: 2.6–2.13.
    """
    functorch: Any = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor


def negative_view(tensor: torch.Tensor) -> torch.Tensor:
    """Return the view whose values are negated when they are read (``torch._neg_view``: 2.6–2.13).

    The imaginary part of a conjugate is one.
    """
    return torch._neg_view(tensor)


@contextmanager
def meta_answers_as(
    device: torch.device, unless: Callable[[], bool], *, hides_meta: bool = False
) -> Iterator[None]:
    """Let meta tensors say that they are on ``device`` while the context is open.

    Their ``is_meta`` stays true unless that is to be hidden as well. ``unless`` says when PyTorch's
    own kernels ask. Both are descriptors of ``torch._C.TensorBase`` (2.6–2.13).
    """
    descriptor: Any = torch.Tensor.__mro__[1].__dict__["device"]
    is_meta: Any = torch.Tensor.__mro__[1].__dict__["is_meta"]

    def answer(tensor: torch.Tensor) -> Any:
        return device if is_meta.__get__(tensor) and not unless() else descriptor.__get__(tensor)

    torch.Tensor.device = property(answer)  # type: ignore[assignment]
    if hides_meta:
        torch.Tensor.is_meta = property(  # type: ignore[assignment]
            lambda tensor: is_meta.__get__(tensor) and unless()
        )
    try:
        yield
    finally:
        del torch.Tensor.device
        if hides_meta:
            del torch.Tensor.is_meta


@contextmanager
def new_sparse_on_meta() -> Iterator[None]:
    """Let ``gradient.new(indices, values, size)`` make sparse meta tensors, as SparseAdam asks.

    ``Tensor.new`` is a method of ``torch._C.TensorBase`` that knows no such type (2.6–2.13).
    """
    plain: Any = torch.Tensor.new
    is_inside = "new" in vars(torch.Tensor)  # an analysis in a forward that is analysed

    def new(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if tensor.layout is torch.sparse_coo and tensor.is_meta and len(args) > 1:
            return torch.sparse_coo_tensor(*args, check_invariants=False)
        return plain(tensor, *args, **kwargs)

    if is_inside:
        yield
        return
    torch.Tensor.new = new  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del torch.Tensor.new


def wrapper_subclass(original: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor without data of the same class, sizes and dtype, on another device.

    ``torch.Tensor._make_wrapper_subclass``: 2.6–2.13.
    """
    make: Any = torch.Tensor._make_wrapper_subclass
    made: torch.Tensor = make(
        type(original),
        torch.Tensor.size(original),
        strides=torch.Tensor.stride(original),
        storage_offset=torch.Tensor.storage_offset(original),
        dtype=original.dtype,
        layout=original.layout,
        device=device,
    )
    return made


def coordinate_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return indices and values of a COO tensor, coalesced or not (2.6–2.13)."""
    return [tensor._indices(), tensor._values()]


def compressed_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the parts of a CSR, CSC, BSR or BSC tensor, values last; none of other layouts."""
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []


def nested_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the values of a strided nested tensor, then its sizes, strides and offsets.

    ``_nested_tensor_size``, ``_nested_tensor_strides``, ``_nested_tensor_storage_offsets``:
    2.6–2.13.
    """
    return [
        tensor.values(),
        tensor._nested_tensor_size(),
        tensor._nested_tensor_strides(),
        tensor._nested_tensor_storage_offsets(),
    ]


def jagged_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the values of a jagged nested tensor, then its offsets and what else it keeps."""
    names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
    names = sorted(names, key=lambda name: name != "_values")
    return [getattr(tensor, name) for name in names]
