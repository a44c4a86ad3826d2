"""What an operator asks of a device, whatever the device: its kernels.

One operator may run several: the backward of a convolution is two products and a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from typing import Final

from torchgauge.devices.tables import function_of
from torchgauge.estimate.arguments import argument, given_tensors, mask, real_products
from torchgauge.estimate.compute.elementwise import find_element_count
from torchgauge.estimate.compute.registry import ShapeNotVisibleError, find_flop_formula
from torchgauge.estimate.time.kernels import kinds
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.estimate.time.kernels.products import is_channels_last, product_of_unknown_shape
from torchgauge.estimate.time.kernels.traffic import moved, traffic
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.facts.trace import OpRecord

_WARP, _BLOCK, _PERSISTENT, _COLUMNS = 32, 128, 1024, 16
Rule = Callable[[OpRecord], Iterator[Work]]


def kernels_of(op: OpRecord) -> tuple[Work, ...]:
    """Return the kernels of an operator; none for a view or for memory that is only taken."""
    if op.is_view:
        return ()
    packet = packet_of(op.name)
    if packet in kinds.NO_KERNEL:
        return ()
    rule = _RULES.get(packet)
    try:
        return tuple(rule(op) if rule is not None else _by_table(op, packet))
    except ShapeNotVisibleError:
        return (traffic(op, Kind.COPY),)


def packet_of(name: str) -> str:
    """Return an operator's name without overload, in-place mark and the namespace ``aten``.

    >>> packet_of("aten.add_.Tensor"), packet_of("torchvision.nms.default")
    ('add', 'torchvision.nms')
    """
    base = base_name(name)
    return base[:-1] if base.endswith("_") and not base.endswith("__") else base


def base_name(name: str) -> str:
    """Return an operator's name, its in-place mark included, without overload and ``aten``."""
    namespace, _, rest = name.partition(".")
    base = rest.split(".")[0]
    return base if namespace == "aten" else f"{namespace}.{base}"


def _by_table(op: OpRecord, packet: str) -> Iterator[Work]:
    formula = find_flop_formula(op.name)
    if formula is not None and (flops := formula(op)):
        yield product_of_unknown_shape(op, flops * real_products(op))
        return
    if packet.startswith(("_foreach_", "_fused_", "_amp_foreach")):
        yield traffic(op, Kind.MULTI_TENSOR)
        return
    if packet in kinds.KIND_OF:
        yield traffic(op, kinds.KIND_OF[packet], kinds.READS.get(packet, 1.0))
        return
    known = find_element_count(op.name) is not None
    yield traffic(op, _pointwise(op) if known else Kind.COPY)


def _pointwise(op: OpRecord) -> Kind:
    operands = [tensor for tensor in (*given_tensors(op), *op.outputs[:1]) if tensor.shape]
    alike = len({(tensor.shape, tensor.dtype) for tensor in operands}) <= 1
    return Kind.ELEMENTWISE if alike else Kind.BROADCAST


def norm(op: OpRecord) -> Iterator[Work]:
    """``(x, normalized_shape, …)`` or ``(x, dim, …)``: threads reduce a row together.

    A layer norm's row has a block of 128 threads; a softmax's a warp or less, which holds as many
    elements as the next power of two. Source: PyTorch, ``cuda/layer_norm_kernel.cu``
    (``vectorized_layer_norm_kernel``), ``PersistentSoftmax.cuh`` (rows of at most 1,024).
    """
    base, x, over = traffic(op, Kind.NORM), given_tensors(op)[0], op.args[1]
    assert isinstance(over, int | tuple)
    row = prod(x.shape[-len(over) :] if isinstance(over, tuple) else x.shape[over:][:1])
    rows, is_softmax = x.numel / max(1, row), "softmax" in op.name
    held = 1 << max(0, row - 1).bit_length() if is_softmax and row <= _PERSISTENT else row
    threads = min(held, _WARP) if is_softmax else _BLOCK
    yield replace(base, rows=rows * threads, padding=rows * (held - row), is_softmax=is_softmax)


def group_norm(op: OpRecord) -> Iterator[Work]:
    """Sums for each group of an image, or channel of its backward; then each element.

    Source: PyTorch, ``cuda/group_norm_kernel.cu`` (``RowwiseMomentsCUDAKernel``,
    ``ComputeInternalGradientsCUDAKernel``, ``gpu_kernel``).
    """
    yield replace(traffic(op, Kind.REDUCTION), written_bytes=0.0)
    yield traffic(op, Kind.BROADCAST)


def layer_norm_backward(op: OpRecord) -> Iterator[Work]:
    """``(gradient, x, normalized_shape, …)``: the input's gradient, then weight's and bias's.

    For these a block of 512 threads goes over all rows of 16 columns: few columns are few blocks.
    Source: PyTorch, ``cuda/layer_norm_kernel.cu`` (``GammaBetaBackwardCUDAKernel``; since 2.8 rows
    are split as well: github.com/pytorch/pytorch/pull/150773).
    """
    yield traffic(op, Kind.NORM)
    if any((mask(op, 7) or (True, True))[1:]):
        over = op.args[2]
        assert isinstance(over, tuple)
        blocks = -(-prod(given_tensors(op)[1].shape[-len(over) :]) // _COLUMNS)
        yield replace(traffic(op, Kind.COLUMN_SUMS), written_bytes=0.0, rows=blocks)


def cast(op: OpRecord) -> Iterator[Work]:
    """A cast; a copy where the dtype stays."""
    given = given_tensors(op)
    same = bool(given) and bool(op.outputs) and given[0].dtype == op.outputs[0].dtype
    yield traffic(op, Kind.COPY if same else Kind.CAST)


def batch_norm(op: OpRecord) -> Iterator[Work]:
    """Statistics first, in training, a block per channel; in evaluation those that are kept."""
    is_backward = "backward" in op.name
    if is_backward or bool(argument(op, 5, "training")):
        x = given_tensors(op)[0]
        blocks = x.numel if is_channels_last(op) else x.shape[1]
        yield replace(traffic(op, Kind.BATCH_STATISTICS), written_bytes=0.0, rows=blocks)
    yield traffic(op, Kind.BATCH_NORM)


def pooling(op: OpRecord) -> Iterator[Work]:
    """``(x, kernel_size, …)``: a thread goes over its window."""
    size = argument(op, 1, "kernel_size")
    sides = size if isinstance(size, tuple) else (size,) * max(1, op.name.count("2d") * 2)
    window = prod(side for side in sides if isinstance(side, int))
    yield replace(traffic(op, Kind.POOLING), window=window)


def upsampling(op: OpRecord) -> Iterator[Work]:
    """``x: [n, c, h, w]``: a thread per output pixel, which goes over ``n × c``.

    Source: ``upsample_bilinear2d_out_frame`` in PyTorch's
    ``aten/src/ATen/native/cuda/UpSampleBilinear2d.cu``; ``UpSampleBicubic2d.cu``.
    """
    output = op.outputs[0].shape
    yield replace(traffic(op, Kind.UPSAMPLING), rows=prod(output[2:]), inner=prod(output[:2]))


def written_only(op: OpRecord) -> Iterator[Work]:
    """A result that is made of nothing that is read."""
    yield replace(traffic(op, Kind.ELEMENTWISE), read_bytes=0.0)


def looked_up(op: OpRecord) -> Iterator[Work]:
    """Rows of a table: as much is read as is written, and the indices."""
    indices = sum(tensor.nbytes for tensor in given_tensors(op) if "int" in tensor.dtype)
    base = moved(op.outputs[0], Kind.INDEXING)
    yield replace(base, read_bytes=base.read_bytes + indices)


def written_by_index(op: OpRecord) -> Iterator[Work]:
    """``(destination, indices, values)``: the values are read and written."""
    yield moved(given_tensors(op)[-1], Kind.INDEXING)


_RULES: Final[dict[str, Rule]] = {
    name: function_of(__package__, text) for name, text in kinds.RULE_OF.items()
}
