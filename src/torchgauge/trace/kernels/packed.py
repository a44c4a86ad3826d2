"""Packed sequences on meta tensors: kernels that read lengths on the CPU and need them there."""

from __future__ import annotations

import torch


def pad_packed_sequence(
    data: torch.Tensor,
    batch_sizes: torch.Tensor,
    batch_first: bool,
    padding_value: float,
    total_length: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unpack ``[sum of lengths, ...]`` to ``[T, B, ...]`` and the lengths ``[B]``.

    The same copies in the same order as ``_pad_packed_sequence`` in PyTorch's
    ``aten/src/ATen/native/PackedSequence.cpp``: one per run of equal batch sizes.
    """
    sizes = [int(size) for size in batch_sizes.tolist()]
    steps, batch = max(len(sizes), total_length), sizes[0]
    output = data.new_full((steps, batch, *data.shape[1:]), padding_value)
    offset = start = 0
    while start < len(sizes):
        end = start
        while end < len(sizes) and sizes[end] == sizes[start]:
            end += 1
        size, count = sizes[start], end - start
        chunk = data[offset : offset + count * size].view(count, size, *data.shape[1:])
        output[start:end, :size].copy_(chunk)
        offset, start = offset + count * size, end
    lengths = torch.tensor([sum(size > row for size in sizes) for row in range(batch)])
    return (output.transpose(0, 1) if batch_first else output), lengths
