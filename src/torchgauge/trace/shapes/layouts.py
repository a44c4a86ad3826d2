"""The order of a tensor's elements in memory, and the device without data."""

from __future__ import annotations

from typing import Any

import torch

from torchgauge.facts.trace import Layout


def channels_last(tensor: torch.Tensor) -> torch.memory_format | None:
    """Return the layout of images or volumes with their channels last, ``None`` for others.

    What strides say, as ``suggest_memory_format`` in PyTorch's ``c10/core/MemoryFormat.h`` reads
    them: a tensor with one channel, or of one pixel, is contiguous in both layouts.
    """
    if tensor.dim() not in _CHANNELS_LAST:
        return None
    layout, order = _CHANNELS_LAST[tensor.dim()]
    sizes, strides = tensor.shape, tensor.stride()
    if strides[1] == 0:
        return None
    least = 0
    for dim in order:
        if sizes[dim] == 0 or strides[dim] < least or (dim == 0 and least == strides[1]):
            return None
        least = strides[dim] * sizes[dim]
    return layout


def layout_of(tensor: torch.Tensor) -> Layout:
    """Return what kernels ask about the order of a tensor's elements in memory."""
    if tensor.layout is not torch.strided:
        return Layout.NONE
    key = (tensor.shape, tensor.stride(), tensor.is_conj())
    known = _layouts.get(key)
    if known is None:
        if len(_layouts) >= _LAYOUTS:
            _layouts.clear()
        known = _layouts[key] = _look_at(tensor)
    return known


_LAYOUTS = 10_000
_layouts: dict[tuple[Any, ...], Layout] = {}
"""By shape, strides and whether a tensor is a conjugate: nothing else decides a layout."""


def _look_at(tensor: torch.Tensor) -> Layout:
    layout = Layout.NONE
    if tensor.is_contiguous():
        layout |= Layout.CONTIGUOUS
    if tensor.dim() in _CHANNELS_LAST:
        if tensor.is_contiguous(memory_format=_CHANNELS_LAST[tensor.dim()][0]):
            layout |= Layout.CHANNELS_LAST
        if channels_last(tensor) is not None:
            layout |= Layout.SUGGESTS_CHANNELS_LAST
        if tensor.dim() == 4 and tensor.transpose(1, 2).is_contiguous():
            layout |= Layout.HEADS_INSIDE
    elif tensor.dim() in (2, 3):
        if _is_matrix(tensor):
            layout |= Layout.MATRIX
        if tensor.stride(-1) != 1 and tensor.mT.is_contiguous():
            layout |= Layout.TRANSPOSED
    if tensor.is_conj():
        layout |= Layout.CONJUGATED
    return layout


def _is_matrix(tensor: torch.Tensor) -> bool:
    """Return whether BLAS takes a matrix as it is: as rows, or transposed as columns.

    It reads conjugates of what is transposed only. The condition is that of ``addmm_impl_cpu_``.
    """
    *_, height, width = tensor.shape
    *_, down, right = tensor.stride()
    by_rows = right == 1 and down >= max(1, width) and not tensor.is_conj()
    return by_rows or (down == 1 and right >= max(1, height))


_CHANNELS_LAST = {
    4: (torch.channels_last, (1, 3, 2, 0)),
    5: (torch.channels_last_3d, (1, 4, 3, 2, 0)),
}
"""By number of dimensions: the layout, and its dimensions from the innermost to the outermost."""
