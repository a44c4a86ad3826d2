"""Fourier transforms: strides of the results, and scratch memory on the CPU.

MKL transforms one batch dimension. Where the others do not lie one behind the other in memory, the
input is copied. A complex-to-real transform over several dimensions is a complex one and a real
one. PyTorch's meta kernels give results of other strides (2.6–2.13). Source: ``_exec_fft``,
``_sort_dims`` and ``_fft_c2r_mkl`` in PyTorch's ``aten/src/ATen/native/mkl/SpectralOps.cpp``
(2.6–2.13). Assumes: a build with MKL.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any

import torch

from torchgauge.trace.shapes.rule import Args, Kwargs, Rule

TRANSFORMS = ("_fft_r2c", "_fft_c2c", "_fft_c2r")
SCRATCH = "scratch_bytes"
"""The keyword under which the bytes are noted."""


def _transformed(base: str, args: Args, kwargs: Kwargs) -> Any:
    """Result of a transform: the transformed dimensions lie innermost, in the order of the plan."""
    source, dims = args[0], args[1]
    if not dims or source.numel() == 0 or kwargs:
        return NotImplemented
    dims = [dim % source.dim() for dim in dims]
    sizes, strides = list(source.shape), list(source.stride())
    dtype, last = source.dtype, dims[-1]
    if base == "_fft_c2r":
        if len(dims) > 1:
            _, strides = _transform(sizes, strides, _sorted(dims[:-1], strides))
        ordered, sizes[last], dtype = dims[-1:], int(args[3]), dtype.to_real()
    elif base == "_fft_r2c":
        ordered = [*_sorted(dims[:-1], strides), last]
        sizes[last] = sizes[last] // 2 + 1 if args[3] else sizes[last]
        dtype = dtype.to_complex()
    else:
        ordered = _sorted(dims, strides)
    _, strides = _transform(sizes, strides, ordered)
    return torch.empty_strided(sizes, strides, dtype=dtype, device="meta")


FOURIER_RULES: dict[str, Rule] = {
    f"aten.{base}.default": partial(_transformed, base) for base in TRANSFORMS
}


def fourier_scratch(base: str, args: Sequence[Any]) -> list[tuple[str, int]]:
    """Return the most bytes that a transform holds besides its result, as a keyword of the op."""
    source, dims = args[0], [dim % args[0].dim() for dim in args[1]] if args[0].dim() else []
    nbytes = source.numel() * source.element_size()
    if not dims or nbytes == 0:
        return []
    sizes, strides = list(source.shape), list(source.stride())
    resolved = nbytes if source.is_conj() else 0
    if base != "_fft_c2r":
        fixed = dims[-1:] if base == "_fft_r2c" else []
        ordered = _sorted(dims[: len(dims) - len(fixed)], strides) + fixed
        copied, _ = _transform(sizes, strides, ordered)
        return [(SCRATCH, resolved + copied * nbytes)]
    first, between = 0, 0
    if len(dims) > 1:
        copied, strides = _transform(sizes, strides, _sorted(dims[:-1], strides))
        between = nbytes
        result = nbytes // sizes[dims[-1]] // 2 * args[3]
        first = between + copied * nbytes - result
    copied, _ = _transform(sizes, strides, dims[-1:])
    return [(SCRATCH, resolved + max(first, between + copied * nbytes))]


def _sorted(dims: Sequence[int], strides: Sequence[int]) -> list[int]:
    return sorted(dims, key=lambda dim: -strides[dim])


def _partition(count: int, dims: Sequence[int]) -> list[int]:
    """Return the batch dimensions in the order in which C++'s ``std::partition`` leaves them.

    That of dimensions with equal strides: expanded ones, or of size 1.
    """
    order, first, last = list(range(count)), 0, count
    while True:
        while first < last and order[first] not in dims:
            first += 1
        last -= 1
        while first < last and order[last] in dims:
            last -= 1
        if first >= last:
            return order[:first]
        order[first], order[last] = order[last], order[first]
        first += 1


def _transform(
    sizes: Sequence[int], strides: Sequence[int], dims: Sequence[int]
) -> tuple[bool, list[int]]:
    """Return whether the input is copied, and the strides of the result."""
    batch = _sorted(_partition(len(sizes), dims), strides)
    wide = [dim for dim in batch if sizes[dim] != 1]
    copied = any(strides[outer] != strides[inner] * sizes[inner] for outer, inner in pairwise(wide))
    copied |= any(stride == 0 and size != 1 for size, stride in zip(sizes, strides, strict=True))
    order = [*batch, *dims]
    result = [0] * len(sizes)
    for place, dim in enumerate(order):
        result[dim] = prod(sizes[inner] for inner in order[place + 1 :])
    return copied, result
