"""What LAPACK works in on the CPU: copies that it overwrites, and the arrays that it asks for.

Sources: ``BatchLinearAlgebra.cpp`` and ``BatchLinearAlgebraKernel.cpp`` in PyTorch's
``aten/src/ATen/native`` (2.6–2.13). The arrays hold as many numbers as MKL 2024 answers, on real
matrices of 20 to 300 rows; those that need no more than a few columns are left out.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.arguments import argument
from torchgauge.estimate.memory.workspaces.operands import FLOAT, INDEX, itemsize, tensor
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import OpRecord, TensorSpec

_BLOCK = 60 * 60


def _block(source: TensorSpec) -> int:
    """Return what it takes to copy a matrix alone to columns (``copy_transpose_valid``)."""
    return _BLOCK * itemsize(source) if len(source.shape) == 2 and source.numel >= _BLOCK else 0


def inverse(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The factors, their pivots, and what checks them: measured, 2.13.

    Source: ``linalg_inv_ex_out`` in ``BatchLinearAlgebra.cpp``.
    """
    source = tensor(op, 0)
    pivots = source.numel // source.shape[-1] if source.numel else 0
    return source.nbytes, pivots * FLOAT, pivots + INDEX + FLOAT if pivots else 0


def overwritten(op: OpRecord, platform: Platform, is_pivoted: int) -> tuple[int, ...]:
    """The matrices, which LAPACK overwrites, and the pivots, or how each of them ended."""
    source = tensor(op, 0)
    numbers = prod(source.shape[:-2]) * (min(source.shape[-2:]) if is_pivoted else 1)
    return source.nbytes, numbers * FLOAT, _block(source)


def symmetric(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """``syevd``: ``2n² + 6n + 1`` numbers and ``5n + 3`` integers; for values alone, a copy.

    Values alone take ``22n`` numbers. The vectors are returned in the copy.
    """
    source = tensor(op, 0)
    size, width = source.shape[-1], itemsize(source)
    if argument(op, 2, "compute_v", default=True):
        return (2 * size * size + 6 * size + 2) * width, (5 * size + 3) * FLOAT
    return source.nbytes, 22 * size * width


def general(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """``geev``: a copy, the values in two parts, real vectors if there are any, and its array.

    The array is short in double precision up to about 125 rows, in single precision up to 11.
    """
    source = tensor(op, 0)
    size, width, with_vectors = source.shape[-1], itemsize(source), len(op.outputs) > 1
    single = width == FLOAT
    is_short = size < (12 if single else 125)
    alone, beside = (34, 34 if is_short else 386) if single else (3, 4) if is_short else (34, 386)
    values = 2 * prod(source.shape[:-1]) * width
    copies = source.nbytes * (2 if with_vectors else 1)
    return copies, values, (beside if with_vectors else alone) * size * width


def orthogonal(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Reflectors and the array of ``orgqr``; without ``Q``, a copy and that of ``geqrf``."""
    source = tensor(op, 0)
    least, width = min(source.shape[-2:]), itemsize(source)
    scales = prod(source.shape[:-2]) * least * width
    if argument(op, 1, "mode", "reduced") == "r":
        return source.nbytes, scales, max(_block(source), 17 * (least + 1) * width)
    return scales, 32 * least * width


def reflected(op: OpRecord, platform: Platform, rows: int) -> tuple[int, ...]:
    """The array of ``orgqr`` and ``ormqr`` (32 rows) or ``geqrf`` (17)."""
    source = tensor(op, 0)
    return (rows * source.shape[-1] * itemsize(source),)


def least_squares(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """A copy of the matrices, and the array of ``gelsy``."""
    source = tensor(op, 0)
    return source.nbytes, 35 * source.shape[-1] * itemsize(source)
