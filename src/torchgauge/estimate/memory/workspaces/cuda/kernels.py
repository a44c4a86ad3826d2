"""Scratch memory of CUDA kernels that sort, gather and normalise."""

from __future__ import annotations

from torchgauge.estimate.arguments import argument, integer, tensor
from torchgauge.estimate.memory.workspaces.operands import FLOAT, INDEX, copy_bytes
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import OpRecord, TensorSpec

_INT = 4
_DIRECT_INDICES = 3072
"""Indices up to which the gradient of an embedding is summed without sorting them."""
_ROWS_PER_THREAD = 10


def embedding_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Sorted indices with their origins, and partial sums per segment of equal ones.

    ``embedding_dense_backward(grad [..., D], indices, num_weights, padding_idx, scale)``.
    Source: ``Embedding.cu`` and ``EmbeddingBackwardKernel.cu`` in PyTorch's
    ``aten/src/ATen/native/cuda`` (2.6–2.13).
    """
    grad, count, weights = tensor(op, 0), tensor(op, 1).numel, integer(op, 2)
    if count <= _DIRECT_INDICES and not op.args[4]:
        return ()
    segments = min(count, weights)
    partial = -(-count // _ROWS_PER_THREAD) + segments
    sorting = 2 * count * INDEX
    sums = partial * grad.shape[-1] * FLOAT
    return sorting, sorting, 3 * count * _INT, partial * _INT, sums


def index_put(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Sorted positions with their origins, when values are accumulated.

    Source: ``index_put_with_sort_kernel`` in PyTorch's ``aten/src/ATen/native/cuda/Indexing.cu``.
    """
    indices, values, accumulate = op.args[1], op.args[2], argument(op, 3, "accumulate")
    if not accumulate or not isinstance(indices, tuple) or not isinstance(values, TensorSpec):
        return ()
    given = [index for index in indices if isinstance(index, TensorSpec)]
    count = max((index.numel for index in given), default=0)
    return 2 * count * INDEX, 2 * count * INDEX


def group_norm(op: OpRecord, platform: Platform, samples_at: int) -> tuple[int, ...]:
    """Scale and shift per sample and channel; of the backward two sums.

    Both numbers are arguments, from ``samples_at`` on. Source: ``GroupNormKernelImplInternal`` and
    ``GroupNormBackwardKernelImplInternal`` in PyTorch's ``aten/src/ATen/native/cuda``.
    """
    return (integer(op, samples_at) * integer(op, samples_at + 1) * FLOAT,) * 2


def softmax_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The gradient times the output (``softmax_backward_cuda_out`` in ``SoftMax.cu``)."""
    product = tensor(op, 0).nbytes
    return product, product if copy_bytes(op, 0) else 0, copy_bytes(op, 1)
