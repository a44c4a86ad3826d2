"""Scratch memory of the CPU's own kernels, below ``aten/src/ATen/native`` in PyTorch (2.6–2.13)."""

from __future__ import annotations

from math import ceil, prod

from torchgauge.estimate.arguments import ABSENT, argument, expanded, integer, integers
from torchgauge.estimate.memory.workspaces.operands import (
    FLOAT,
    HALF,
    INDEX,
    broadcast,
    copy_bytes,
    itemsize,
    layout,
    tensor,
)
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec

_SMALL_UPSAMPLING = 128
"""Height + width of an output up to which it is made with its channels last."""
_VECTOR_CHANNELS = 3
_LINEAR = 2
"""Pixels of which one is made along a line in linear interpolation."""
_MAXIMUM = 2
"""PyTorch's number for embedding bags that take the maximum; 0 is the sum, 1 the mean."""


def pack_padded_sequence(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Contiguous pieces of one batch size each, where batches come first.

    Lengths are not recorded: steps that one sequence alone has are counted, though they are not
    copied. Where time comes first nothing is counted, since steps that every sequence has are not
    copied. Source: ``_pack_padded_sequence`` in ``PackedSequence.cpp``.
    """
    batch_first, shape = op.args[2], tensor(op, 0).shape
    if not batch_first or 1 in shape[:2] or Layout.CONTIGUOUS not in layout(op, 0):
        return ()
    return (op.outputs[0].nbytes,)


def upsample(op: OpRecord, platform: Platform, factors: int) -> tuple[int, ...]:
    """Copies with the channels last of a small image's input and output.

    Else the positions and ``factors`` of the pixels that each line of the output is made of.
    Source: ``_use_vectorized_kernel_cond_2d`` and ``HelperInterpBase`` in
    ``cpu/UpSampleKernel.cpp``.
    """
    source, output, order = tensor(op, 0), op.outputs[0], layout(op, 0)
    last, sides = Layout.CHANNELS_LAST in order, output.shape[2:]
    several = source.shape[1] > _VECTOR_CHANNELS
    positions = factors * sum(sides) * (INDEX + itemsize(output))
    if len(sides) != 2 or factors > _LINEAR:
        return (0 if last and several and factors <= _LINEAR else positions,)
    colours = factors == _LINEAR and source.shape[1] == _VECTOR_CHANNELS
    if not (last and several) and not colours and sum(sides) > _SMALL_UPSAMPLING:
        return (positions,)
    made_so = Layout.SUGGESTS_CHANNELS_LAST in order
    return 0 if last else source.nbytes, 0 if made_so else output.nbytes


def roll(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Over several dimensions, the result of all but the first, and theirs (``roll_common``).

    Without any a contiguous copy.
    """
    count = len(integers(op, 2))
    return (op.outputs[0].nbytes * min(2, count - 1) if count else copy_bytes(op, 0),)


def index_select(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """A contiguous copy, along the second dimension (``index_select_out_cpu_dim1_``)."""
    rank = max(1, len(tensor(op, 0).shape))
    return (copy_bytes(op, 0) if integer(op, 1) % rank == 1 else 0,)


def sort(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Positions along the dimension (``sort_stable_kernel`` in ``cpu/SortingKernel.cpp``)."""
    shape = tensor(op, 0).shape
    return (shape[integer(op, 1, "dim", -1)] * INDEX if shape else 0,)


def unfold_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Positions along the dimension, where windows overlap (``UnfoldBackward.cpp``)."""
    shape = integers(op, 1)
    extent = shape[integer(op, 2)] if shape else 1
    return (extent * INDEX if integer(op, 4) < integer(op, 3) else 0,)


def cast(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The input in the dtype of the result, where it has another.

    Sources: ``impl_func_cum_ops`` in ``ReduceOps.cpp``; of functions that make floats of whole
    numbers ``TensorIteratorBase::compute_types``.
    """
    result = op.outputs[0]
    return () if tensor(op, 0).dtype == result.dtype else (result.nbytes,)


def masked_select(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The mask as integers and their sum, which are gone when the result is made.

    A tensor or mask that is broadcast or not contiguous takes the parallel kernel. That one holds
    the mask as integers, and their running sums, until the result is made. Source:
    ``masked_select_out_impl_cpu`` in ``TensorAdvancedIndexing.cpp``.
    """
    values, chosen = tensor(op, 0), tensor(op, 1)
    count = broadcast(values, chosen)
    counted = (count + 1) * INDEX - op.outputs[0].nbytes
    in_order = Layout.CONTIGUOUS in layout(op, 0) & layout(op, 1)
    is_serial = in_order and values.shape == chosen.shape
    return (max(0, counted) if is_serial else max(2 * count * INDEX, counted),)


def triangle(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """A contiguous copy of matrices that do not follow one another.

    Source: ``checkTrilTriuBatchContiguous`` in ``TriangularOps.cpp``.
    """
    follow = len(tensor(op, 0).shape) < 3 or Layout.TRANSPOSED in layout(op, 0)
    return () if follow else (copy_bytes(op, 0),)


def unique(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The sorted values, where each was, and numbers to sort by, gone when there are results.

    Source: ``unique_cpu_sorted_template`` in ``Unique.cpp``.
    """
    source = tensor(op, 0)
    places = source.numel * INDEX
    return source.nbytes + places, max(0, places - sum(made.nbytes for made in op.outputs))


def smoothed(op: OpRecord, platform: Platform, support: int) -> tuple[int, ...]:
    """The image resized along its lines, and positions and weights of one direction at a time.

    ``_upsample_bilinear2d_aa(input, output_size, align_corners, scales_h, scales_w)``. Each pixel
    is made of ``2 ⌈r⌉ + 1`` others at most, where ``r`` is ``support ÷ 2`` times the scale, if that
    is larger than 1. A direction whose size stays is left out. Source:
    ``separable_upsample_generic_Nd_kernel_impl`` and ``_compute_index_ranges_weights`` in
    ``cpu/UpSampleKernel.cpp``.
    """
    source, output = tensor(op, 0), op.outputs[0]
    width = itemsize(output)
    weights = [
        made * (4 * INDEX + width * (2 * ceil(support / 2 * max(1.0, scale)) + 1))
        for given, made, scale in zip(
            source.shape[-2:], output.shape[-2:], _scales(op), strict=True
        )
        if given != made
    ]
    if len(weights) < 2:
        return tuple(weights)
    between = prod(source.shape[:-1]) * output.shape[-1] * width
    return between, max(weights)


def _scales(op: OpRecord) -> list[float]:
    """Return how many pixels of the input there are for one, by height and width.

    Source: ``area_pixel_compute_scale`` in ``UpSample.h``.
    """
    sides = zip(tensor(op, 0).shape[-2:], op.outputs[0].shape[-2:], strict=True)
    if argument(op, 2, "align_corners"):
        return [(given - 1) / (made - 1) if made > 1 else 0.0 for given, made in sides]
    factors = [argument(op, 3, "scales_h"), argument(op, 4, "scales_w")]
    return [
        1 / factor if isinstance(factor, float) and factor > 0 else given / made
        for (given, made), factor in zip(sides, factors, strict=True)
    ]


def repeat(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Numbers of the repeated dimensions as tensors: measured, 2.13."""
    return (4 * INDEX * len(integers(op, 1)) if op.outputs[0].numel else 0,)


def bags(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Sums over the bag of each index, then numbers per bag of a mean or maximum.

    Source: ``_embedding_bag_cpu_impl_out`` and ``make_offset2bag`` in ``EmbeddingBag.cpp``.
    """
    table, indices = tensor(op, 0), tensor(op, 1)
    _, bag_of_index, sizes, most = op.outputs
    if not bag_of_index.numel:
        return ()
    number = itemsize(bag_of_index)
    first = (indices.numel + 1) * number - sizes.nbytes - most.nbytes
    apart = (0, 2 * number + itemsize(table), number)[integer(op, 4, "mode", 0)]
    return (max(0, first, op.outputs[0].shape[0] * apart),)


def bags_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Sorted indices, their order, and the bag of each; of a maximum the rows that have it.

    Source: ``_embedding_bag_backward``, ``_embedding_bag_dense_backward_cpu_sum_mean`` and
    ``…_max`` in ``EmbeddingBag.cpp``.
    """
    gradient, indices, rows = tensor(op, 0), tensor(op, 1), tensor(op, 5)
    if op.args[9] is True or not indices.numel:
        return ()
    number = itemsize(indices)
    if op.args[8] == _MAXIMUM:
        return (gradient.nbytes + rows.nbytes + gradient.shape[0] * number,)
    bag_of_index = 0 if tensor(op, 3).numel else (indices.numel + 1) * number
    scales = indices.numel * itemsize(gradient) if isinstance(op.args[10], TensorSpec) else 0
    used = bag_of_index + 3 * indices.nbytes + scales + copy_bytes(op, 0)
    return (max(2 * bag_of_index - op.outputs[0].nbytes, used),)


def gelu_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """A contiguous copy of the gradient, which oneDNN takes for the exact function."""
    exact = argument(op, 2, "approximate", "none") == "none"
    return (copy_bytes(op, 0) if exact and Layout.CONTIGUOUS in layout(op, 1) else 0,)


def _long(op: OpRecord) -> int:
    """Return the bytes of indices in 64 bits, if they are given in less."""
    indices = tensor(op, 2)
    return 0 if indices.dtype == "int64" else indices.numel * INDEX


def gather(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The result in float32, where it has half of that: measured, 2.13."""
    output = op.outputs[0]
    if output.dtype not in HALF or len(output.shape) < 2:
        return (_long(op),)
    return _long(op), output.numel * FLOAT if Layout.CONTIGUOUS in layout(op, 1) else 0


def scatter(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """What is written to in float32, where it has half of that: measured, 2.13.

    Means count what they are of with ones, unless the index is expanded (``scatter_reduce_two`` in
    ``TensorAdvancedIndexing.cpp``).
    """
    written = tensor(op, 0)
    own = written.numel * FLOAT if written.dtype in HALF else 0
    counts = op.name.startswith("aten.scatter_reduce") and argument(op, 4, "reduce") == "mean"
    if not counts or Layout.CONTIGUOUS not in layout(op, 1):
        return own, _long(op)
    return written.nbytes + max(own, written.numel), tensor(op, 3).nbytes, _long(op)


def masked_scatter_backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """What ``masked_select`` takes, then its result and the zeros that follow it.

    Source: ``masked_scatter_backward_symint`` in ``TensorAdvancedIndexing.cpp``.
    """
    made, count = op.outputs[0].nbytes, tensor(op, 0).numel
    is_serial = tensor(op, 0).shape == tensor(op, 1).shape and not copy_bytes(op, 0)
    counted = (count + 1) * INDEX - made if is_serial else 2 * count * INDEX
    return (max(made, counted),)


def logsumexp(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The maxima, and the input less them; before, their sizes and where they are infinite.

    Source: ``logsumexp_out_impl`` in ``ReduceOps.cpp``.
    """
    output = op.outputs[0]
    width = itemsize(output)
    less = output.nbytes + tensor(op, 0).numel * width
    return (max(less, output.nbytes + INDEX + width + output.numel),)


def joined(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """One operand of another dtype at a time, copied on its way to the result: measured, 2.13."""
    parts, output = op.args[0], op.outputs[0]
    assert isinstance(parts, tuple)
    others = [
        part.nbytes
        for part in parts
        if isinstance(part, TensorSpec) and part.dtype != output.dtype and part.numel
    ]
    return (max(others, default=0),)


def trilinear(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Both products of one step of the loop (``_trilinear`` in ``Linear.cpp``)."""
    factors = [tensor(op, position).shape for position in range(3)]
    expands = [integers(op, position) for position in (3, 4, 5)]
    summed = integers(op, 6)
    sizes = list(map(expanded, factors, expands))
    loop = [dim for dim in range(len(sizes[0])) if dim != integer(op, 7, default=1)]
    gone = [dim for dim in summed if dim in expands[2]]
    first = prod(max(sizes[0][dim], sizes[1][dim]) for dim in loop if dim not in gone)
    second = prod(max(size[dim] for size in sizes) for dim in loop if dim not in summed)
    width = itemsize(op.outputs[0])
    return first * width, second * width


def fourier(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """What the recorder noted from the strides (``trace/shapes/fourier.py``)."""
    return (integer(op, ABSENT, "scratch_bytes", 0),)
