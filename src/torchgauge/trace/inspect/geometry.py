"""Where a tensor lies in its storage, and the same view of another storage."""

from __future__ import annotations

import torch

from torchgauge.trace.torch_internals.tensors import negative_view


def view_over(
    storage: torch.UntypedStorage, like: torch.Tensor, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Return the view of ``storage`` that ``like`` is of its own: also conjugate and negative."""
    view = torch.empty(0, dtype=dtype or like.dtype, device=storage.device)
    view.set_(storage, like.storage_offset(), like.shape, like.stride())
    if like.is_conj():
        view = view.conj()
    return negative_view(view) if like.is_neg() else view


def view_of(copied: torch.Tensor, view: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Return the view of ``copied`` that ``view`` is of ``base``, through which gradients flow."""
    offset = view.storage_offset() - base.storage_offset() + copied.storage_offset()
    with torch.enable_grad():
        return copied.as_strided(view.shape, view.stride(), offset)


def span_of(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the first byte of its storage that a tensor reads, and the one after the last."""
    size, count = tensor.element_size(), tensor.numel()
    first = int(tensor.storage_offset()) * size
    if count == 0:
        return first, first
    if tensor.is_contiguous():
        return first, first + count * size
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return first, first + (sum((int(n) - 1) * int(stride) for n, stride in steps) + 1) * size


def is_dense(tensor: torch.Tensor) -> bool:
    """Return whether the elements fill their memory without gaps or overlaps, in any order."""
    if tensor.layout is not torch.strided:
        return False
    extent = 1
    sizes = [(s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n != 1]
    for stride, size in sorted(sizes):
        if stride != extent:
            return False
        extent *= size
    return True


def covers_storage(tensor: torch.Tensor) -> bool:
    """Return whether a write to a tensor is one to every byte of its storage."""
    nbytes = tensor.numel() * tensor.element_size()
    return nbytes == tensor.untyped_storage().nbytes() and is_dense(tensor)


def may_overlap(tensor: torch.Tensor) -> bool:
    """Return whether elements of a tensor may share memory: what expanded it, or its strides."""
    extent = 1
    sizes = [(s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]
    for stride, size in sorted(sizes):
        if stride < extent:
            return True
        extent += stride * (size - 1)
    return False


def is_whole(tensor: torch.Tensor, storage: torch.UntypedStorage) -> bool:
    """Return whether a tensor is its storage from the first byte to the last, row by row."""
    return (
        tensor.is_contiguous()
        and tensor.numel() * tensor.element_size() == storage.nbytes()
        and tensor.storage_offset() == 0
        and not (tensor.is_conj() or tensor.is_neg())
    )


def has_same_place(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Return whether two tensors are the same view of storages of the same size."""
    return (
        left.stride() == right.stride()
        and left.storage_offset() == right.storage_offset()
        and left.untyped_storage().nbytes() == right.untyped_storage().nbytes()
    )


def copy_bytes(
    target: torch.UntypedStorage, source: torch.UntypedStorage, start: int, end: int
) -> None:
    """Copy a range of bytes from one storage to the same place in another."""
    _bytes(target, start, end).copy_(_bytes(source, start, end))


def _bytes(storage: torch.UntypedStorage, start: int, end: int) -> torch.Tensor:
    view = torch.empty(0, dtype=torch.uint8, device=storage.device)
    return view.set_(storage, start, (end - start,), (1,))


class Spans:
    """The parts of a storage that are known, as ranges of bytes that do not touch."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        """Take a range in, joined with those that it touches."""
        apart = []
        for first, last in self._ranges:
            if last < start or end < first:
                apart.append((first, last))
            else:
                start, end = min(start, first), max(end, last)
        self._ranges = [*apart, (start, end)]

    def cover(self, tensor: torch.Tensor) -> bool:
        """Return whether all that a tensor reads is known."""
        start, end = span_of(tensor)
        return start == end or any(first <= start and end <= last for first, last in self._ranges)
