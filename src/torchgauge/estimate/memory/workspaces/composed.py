"""Temporaries inside operators that PyTorch makes of others, on every device.

Shapes: any. Sources: PyTorch's ``aten/src/ATen/native`` (2.6–2.13).
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.arguments import argument, integer
from torchgauge.estimate.memory.allocator.keys import rules_of
from torchgauge.estimate.memory.workspaces.operands import broadcast, itemsize, tensor
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import OpRecord, TensorSpec

_NUMBER = 8
"""Bytes of a Python number as a tensor."""


def distances(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Both sets of points with their norm and a one as further columns.

    ``_euclidean_dist(x1, x2)``, ``x1: […, P, M]``, ``x2: […, R, M]``: what ``cdist`` takes where a
    set has more than 25 points. While the first is put together, its double is there as well; while
    the second is, its norm and its ones.
    Source: ``_euclidean_dist`` in ``Distance.cpp``.
    """
    output, columns = op.outputs[0], tensor(op, 0).shape[-1]
    width = itemsize(output)
    first, second = (prod(tensor(op, position).shape[:-1]) for position in (0, 1))
    product = (first + second) * (columns + 2) * width
    making = max(first * (2 * columns + 4) + second * 2, product // width + second * 2) * width
    return (max(product, making - output.nbytes),)


def affine_grid(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The grid of the image itself, with ones (``AffineGridGenerator.cpp``)."""
    output = op.outputs[0]
    coordinates = output.shape[-1]
    return (output.nbytes // coordinates * (coordinates + 1) if coordinates else 0,)


def is_infinite(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The absolute values (``isinf`` in ``TensorCompare.cpp``); whole numbers have none."""
    source = tensor(op, 0)
    if not source.dtype.startswith(("float", "bfloat")):
        return ()
    return source.nbytes, _NUMBER + itemsize(source) if platform.type == "cpu" else 0


def distance(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The difference of which the norm is taken (``dist`` in ``Distance.cpp``)."""
    return (broadcast(tensor(op, 0), tensor(op, 1)) * itemsize(op.outputs[0]),)


def index_reduce(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """How many values each mean is of, and ones to count them.

    ``index_reduce(self, dim, index, source, reduce)``. Source: ``index_reduce_func_impl`` in
    ``TensorAdvancedIndexing.cpp`` and ``cuda/Indexing.cu``.
    """
    if argument(op, 4, "reduce") != "mean":
        return ()
    return tensor(op, 0).nbytes, tensor(op, 3).nbytes


def multinomial(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The probabilities divided by random numbers, and the largest quotients if several are drawn.

    ``multinomial(self, num_samples, replacement)``. Several draws with replacement go another way.
    On the CPU, two answers about the extremes, and these too where both are taken at once (from
    2.12 on; pull request 178018). Source: ``multinomial_out`` in ``Distributions.cpp``.
    """
    source, count = tensor(op, 0), integer(op, 1)
    if argument(op, 2, "replacement", default=False) and count > 1:
        return ()
    width = itemsize(source)
    chosen = op.outputs[0].numel * width if count > 1 else 0
    extremes = 2 * width if rules_of(platform.torch_release).version >= (2, 12) else 0
    return source.nbytes, chosen, 2 + extremes if platform.type == "cpu" else 0


def matrix_exponential(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The powers and partial sums of a series of 18 terms, which is then squared.

    How many there are at once depends on the norm: of one matrix 4 below 10⁻⁶, 9 at 1, 12 above 3
    (float32). The most is taken. Matrices of a batch are sorted by their norms, which takes 10 of
    each if all are alike. Measured, 2.13. Source: ``mexp`` and ``mexp_impl`` in
    ``LinearAlgebra.cpp``.
    """
    source = tensor(op, 0)
    count = prod(source.shape[:-2])
    norms = max(2, count) * (_NUMBER + itemsize(source)) if platform.type == "cpu" else 0
    return source.nbytes * (12 if count == 1 else 10), norms


def complex_first(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The result as complex numbers, whose real parts are copied.

    Source: ``unary_op_impl_with_complex_to_float_out`` in ``UnaryOps.cpp``.
    """
    source: TensorSpec = tensor(op, 0)
    return (source.nbytes,) if source.dtype.startswith("complex") else ()
