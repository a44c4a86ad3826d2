"""An operator as a CPU sees it: which calibrated surface tells its time, and where on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from torchgauge.devices.tables import function_of, rows_beside
from torchgauge.estimate.arguments import argument, given_tensors, mask, real_products, tensor
from torchgauge.estimate.compute.registry import ShapeNotVisibleError, find_flop_formula
from torchgauge.estimate.memory.workspaces.onednn.convolution_sizes import BLOCK, Convolution, read
from torchgauge.estimate.memory.workspaces.operands import up
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.estimate.time.kernels.operators import base_name, kernels_of, packet_of
from torchgauge.facts.trace import OpRecord, TensorSpec

_SHORT: Final = 32
"""Elements of a row; shorter ones are a few vectors and what is left over, and take up to six times
as long where something is."""
_NARROW: Final = 9
"""Elements of a pooling window as most networks have it."""
_VECTOR: Final = 8
"""Elements of a vector in PyTorch's own kernels."""
_FLOAT: Final = 4
"""Bytes of the dtype in which most surfaces are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuWork:
    """One operator's request: the surface to read, and the sizes that say where."""

    surface: str
    """``"convolution.depthwise"``, ``"addmm"``, ``"relu_"``."""
    sizes: tuple[float, ...]
    """Positive; their logarithms are the coordinates."""
    kind: Kind
    dtype: str
    flops: float = 0.0
    """Of products, as the shapes say."""
    padded_flops: float = 0.0
    """Of products, with channels filled up to a block."""
    nbytes: float = 0.0


def work_of(op: OpRecord, threads: int) -> CpuWork | None:
    """Return what an operator asks of the CPU; ``None`` for a view, or for memory only taken."""
    works = kernels_of(op)
    if not works:
        return None
    rule = _RULES.get(packet_of(op.name), _by_elements)
    try:
        found = rule(op, threads)
    except ShapeNotVisibleError:
        found = None
    found = found or _by_elements(op, threads)
    flops = sum(work.flops * work.share for work in works)
    share = flops / found.flops if found.flops else 1.0
    return CpuWork(
        surface=found.surface,
        sizes=tuple(max(1.0, size) for size in found.sizes),
        kind=max(works, key=lambda work: (work.flops, work.nbytes)).kind,
        dtype=works[0].dtype,
        flops=flops,
        padded_flops=(found.padded_flops or found.flops) * share or flops,
        nbytes=sum(work.nbytes for work in works),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    surface: str
    sizes: tuple[float, ...]
    flops: float = 0.0
    padded_flops: float = 0.0


_Rule = Callable[[OpRecord, int], "_Place | None"]


def _by_elements(op: OpRecord, threads: int) -> _Place:
    """One size: the elements of the largest tensor, in units of float32."""
    given = [tensor for tensor in given_tensors(op) if tensor.shape]
    largest = max((tensor.nbytes for tensor in (*given, *op.outputs)), default=0)
    alike = len({tensor.shape for tensor in given}) <= 1
    name = base_name(op.name)
    return _Place(name if alike else f"{name}.broadcast", (largest / _FLOAT,))


# ---------------------------------------------------------------------------- products


def matmul(op: OpRecord, threads: int) -> _Place | None:
    """``(bias?, left: […, rows, inner], right: […, inner, columns])``; many of them apart."""
    matrices = [tensor for tensor in given_tensors(op) if len(tensor.shape) >= 2][-2:]
    if packet_of(op.name) in ("mv", "addmv") and matrices:
        # A matrix by a vector: as one row by a weight, stored as [columns, inner].
        columns, inner = matrices[0].shape
        return _product(1, columns, inner, has_bias=packet_of(op.name) == "addmv")
    if len(matrices) < 2 or not op.outputs:
        return None
    inner, output = matrices[0].shape[-1] * real_products(op), op.outputs[0].shape
    *many, rows, columns = (1, 1, *output)
    batch = prod(many)
    if batch > 1:
        return _Place("bmm", (batch, rows, columns, inner), 2.0 * batch * rows * columns * inner)
    return _product(rows, columns, inner, has_bias=len(given_tensors(op)) > len(matrices))


def _product(rows: int, columns: int, inner: int, *, has_bias: bool) -> _Place:
    """``[rows, inner] · [inner, columns]``, narrow ones apart: few vectors, left-overs."""
    name = "mm.narrow" if min(columns, inner) < _SHORT else "mm"
    sizes = (rows, columns, inner, 2.0 if has_bias else 1.0)
    return _Place(name, sizes, 2.0 * rows * columns * inner)


def attention(op: OpRecord, threads: int) -> _Place | None:
    """``(q, k, v: [b, h, l, e], …)``, after the gradient in a backward."""
    given = given_tensors(op)
    backward = "backward" in op.name
    query, key = given[1:3] if backward else given[:2]
    formula = find_flop_formula(op.name)
    causal = argument(op, 6 if backward else 4, "is_causal")
    name = f"attention{'_backward' if backward else ''}{'.causal' if causal else ''}"
    sizes = (prod(query.shape[:-2]), query.shape[-2], key.shape[-2], query.shape[-1])
    return _Place(name, sizes, float(formula(op)) if formula is not None else 0.0)


def recurrent(op: OpRecord, threads: int) -> _Place | None:
    """``mkldnn_rnn_layer(input: [t, n, i], w_input: [4h, i], w_hidden: [4h, h], …)``."""
    source, _, hidden = given_tensors(op)[:3]
    if len(source.shape) != 3:
        return None
    steps, batch, inputs = source.shape
    flops = 2.0 * steps * batch * hidden.shape[0] * (inputs + hidden.shape[-1])
    return _Place(base_name(op.name), (steps, batch, inputs, hidden.shape[-1]), flops)


def convolution(op: OpRecord, threads: int) -> _Place | None:
    """``(x: [n, c, …], weight: [o, c/g, …], …)``, as oneDNN sees it."""
    case = read(_as_float32(op), Platform(type="cpu", threads=threads), 0, op.outputs[0].shape)
    return None if case is None else _of_convolution("convolution", case)


def convolution_backward(op: OpRecord, threads: int) -> _Place | None:
    """``(grad, x, weight, …, output_mask)``: the sizes of its forward, for each gradient."""
    case = read(_as_float32(op), Platform(type="cpu", threads=threads), 1, tensor(op, 0).shape)
    if case is None:
        return None
    wanted = mask(op, 10) or (True, True, True)
    name = "convolution_backward" if wanted[0] else "convolution_backward.weight"
    place, gradients = _of_convolution(name, case), sum(wanted[:2])
    return replace(
        place, flops=gradients * place.flops, padded_flops=gradients * place.padded_flops
    )


def _as_float32(op: OpRecord) -> OpRecord:
    """Return the operator as if its tensors were float32: oneDNN's choices by shape are alike."""
    args = tuple(
        replace(value, dtype="float32") if isinstance(value, TensorSpec) else value
        for value in op.args
    )
    return replace(op, args=args)


def _of_convolution(name: str, case: Convolution) -> _Place:
    image = case.source.shape[2:] if case.is_transposed else case.result[2:]
    batch, groups = case.source.shape[0], case.groups
    pixels, window, step = batch * prod(image), prod(case.kernel), prod(case.stride)
    first, second = case.weight.shape[0] // groups, case.weight.shape[1]
    filled = _filled(first), _filled(second)
    last = ".channels_last" if case.is_channels_last else ""
    sizes: tuple[float, ...] = (pixels, first, second)
    is_padded = False
    if case.is_transposed:
        kind, last, is_padded = ".transposed", "", True
        sizes = (*sizes, window, batch, *filled)
    elif case.is_depthwise:
        kind, sizes = ".depthwise", (pixels, groups, window, step, batch, _filled(groups))
    elif groups > 1:
        kind, sizes = ".grouped", (*sizes, groups, window)
    elif not case.takes_onednn:
        kind, last = ".im2col", ""
    elif case.is_first:
        kind, sizes = ".first", (*sizes, window, step, batch, _filled(first))
    elif window > 1 and case.kernel == case.stride:
        kind, sizes, is_padded = ".patches", (*sizes, window, batch, *filled), True
    elif window > 1:
        kind, sizes, is_padded = "", (*sizes, window, step, batch, *filled), True
    else:
        kind, sizes, is_padded = ".pointwise", (*sizes, step, batch, *filled), True
    flops = 2.0 * groups * pixels * first * second * window
    return _Place(f"{name}{kind}{last}", sizes, flops, flops * prod(filled) if is_padded else 0.0)


def _filled(count: int, block: int = BLOCK) -> float:
    """Return how many times the elements there are once their last block is full: 1 to 16.

    Kernels move and multiply whole blocks, and mask what goes beyond.
    """
    return up(count, block) / count


# ---------------------------------------------------------------------------- rows and windows


def rows(op: OpRecord, threads: int) -> _Place | None:
    """Rows of so many elements: normalisation and softmax; rows that lie across memory apart."""
    source, name = given_tensors(op)[0], base_name(op.name)
    inner = source.shape[-1] if source.shape else 1
    position = 2 if "backward" in op.name else 1
    dim, rank = argument(op, position, "dim"), len(source.shape)
    if isinstance(dim, int) and rank and dim % rank != rank - 1:
        return _in_rows(f"{name}.columns", source, source.shape[dim])
    normalized = argument(op, position, "normalized_shape")
    if isinstance(normalized, tuple):
        inner = prod(size for size in normalized if isinstance(size, int))
    return _in_rows(f"{name}.short" if inner < _SHORT else name, source, inner)


def _in_rows(name: str, tensor: TensorSpec, inner: int | None = None) -> _Place:
    """How many rows a tensor has, and of how many elements: by default its last dimension's."""
    if inner is None:
        inner = tensor.shape[-1] if tensor.shape else 1
    return _Place(name, (tensor.numel / max(1, inner), inner))


def batch_norm(op: OpRecord, threads: int) -> _Place | None:
    """``[n, c, …]``: the elements, the images, the channels, and how full the last vector is."""
    training = bool(argument(op, 7 if "backward" in op.name else 5, "training"))
    source = given_tensors(op)[0]
    name = base_name(op.name) if training else f"{base_name(op.name)}.evaluation"
    images, count = source.shape[:2]
    pixels = source.numel // max(1, images * count)
    filled = _filled(pixels, _VECTOR) if pixels else 1.0
    return _Place(name, (source.numel, images, count, filled))


def reduced(op: OpRecord, threads: int) -> _Place | None:
    """Sums: of whole rows, or down the columns."""
    source = given_tensors(op)[0]
    left = max(1, op.outputs[0].numel if op.outputs else 1)
    name = base_name(op.name)
    dims = argument(op, 1, "dim")
    given = [d for d in (dims if isinstance(dims, tuple) else (dims,)) if type(d) is int]
    rank = max(1, len(source.shape))
    inner = not given or rank - 1 in [d % rank for d in given]
    return _Place(name if inner else f"{name}.columns", (left, source.numel / left))


def pooled(op: OpRecord, threads: int) -> _Place | None:
    """Windows over images: results, and elements in a window."""
    source = given_tensors(op)[1 if "backward" in op.name else 0]
    window = argument(op, 2 if "backward" in op.name else 1, "kernel_size")
    sizes = [size for size in window if isinstance(size, int)] if isinstance(window, tuple) else []
    area = prod(sizes) if len(sizes) != 1 else sizes[0] ** 2
    result = given_tensors(op)[0] if "backward" in op.name else op.outputs[0]
    wide = ".wide" if area > _NARROW else ""
    return _Place(f"{base_name(op.name)}{wide}", (result.numel, area, source.numel))


def resampled(op: OpRecord, threads: int) -> _Place | None:
    """Images of another size: how many, their channels, pixels, and pixels made of each."""
    large, small = given_tensors(op)[0], op.outputs[0]
    if "backward" not in op.name:
        large, small = small, large
    images, count = small.shape[:2]
    pixels = prod(small.shape[2:])
    made = prod(large.shape[2:]) / max(1, pixels)
    return _Place(base_name(op.name), (images, count, pixels, made))


def ordered(op: OpRecord, threads: int) -> _Place | None:
    """Rows that are sorted: how many, and of how many elements."""
    return _in_rows(base_name(op.name), given_tensors(op)[0])


def joined(op: OpRecord, threads: int) -> _Place | None:
    """``cat``: bytes, and how many parts."""
    return _Place(base_name(op.name), (op.outputs[0].nbytes / _FLOAT, len(given_tensors(op))))


def looked_up(op: OpRecord, threads: int) -> _Place | None:
    """Rows by index: how many, of how many elements."""
    return _in_rows(base_name(op.name), op.outputs[0])


_RULES: Final[Mapping[str, _Rule]] = {
    row["operator"]: function_of(__package__, row["rule"]) for row in rows_beside(__file__)
}
