"""How long a kernel runs on a device: one formula per kind, from few coefficients.

Formulas use ``+ - * / // **`` and ``abs`` alone, so that they take numbers or arrays of them: the
calibration evaluates the same code on all kernels of a data set at once.

Compute and memory time overlap, though not wholly: they add as ``(c^p + m^p)^(1/p)``. ``p = 1``
would be one after the other, ``p → ∞`` the roofline's maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

from torchgauge.estimate.time.kernels.kinds import Kind

Number = Any
"""A float, or an array of floats."""


Formula = Callable[[Any, "Rates", Mapping[str, Number]], Number]
"""Seconds that computing alone would take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a device reaches at best, for one kernel or, as arrays, for many."""

    compute: Number
    """FLOPs per second of products in the kernel's arithmetic, sustained."""
    vector: Number
    """Steps per second, sustained, that the ordinary cores do in kernels other than products."""
    bandwidth: Number
    """Bytes per second from memory, sustained."""
    peak_bandwidth: Number
    """The datasheet's: no kernel moves more from memory."""
    cache_bytes: Number
    """L2."""
    processors: Number
    """Streaming multiprocessors."""
    copies_layout: Number
    """Share of NCHW operands that convolutions want copied to channels last."""
    pads_channels: Number
    """1 where convolutions pad their channels to whole steps of the tensor cores, else 0."""
    wants_alignment: Number
    """1 where tensor cores multiply, which take eight numbers at a time, else 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTime:
    """Seconds of one kernel: what computing alone and what memory alone would take, and the sum."""

    compute: Number
    memory: Number
    launch: Number
    total: Number


_UNROLLED: Final = 25.0
"""Elements of the largest window that has a loop of its own (PyTorch, ``DepthwiseConv2d.cu``)."""
_RESIDENT: Final = 6.0
"""Blocks of 256 threads that a multiprocessor of capability 8.6 has at once (8 others)."""
_TILES: Final = (
    (256.0, 128.0), (128.0, 256.0), (128.0, 128.0), (256.0, 64.0), (128.0, 64.0),
    (64.0, 128.0), (64.0, 64.0), (128.0, 32.0), (64.0, 32.0),
)  # fmt: skip
"""Rows and columns that a block computes, the one that reuses most first.

Source: NVIDIA, Matrix Multiplication Background, "Tile Quantization" (256 x 128 to 64 x 64; of 32
columns in CUTLASS)."""
_SPLIT: Final = 1024.0
"""Elements of the inner side that a block of cuBLAS takes at least, where that is split."""
_INDEXED: Final = 2.0**31
"""Elements from which 32 bits do not count them: cuDNN's depthwise kernels, channels last, are
others then."""
_NOTHING: Final = 1e-12
"""Seconds that keep a ratio, and its logarithm, finite."""


def kernel_time(kind: Kind, work: Any, rates: Rates, c: Mapping[str, Number]) -> KernelTime:
    """Return the time of a kernel on the GPU; ``c`` holds the coefficients by name.

    Assumes: it has the GPU for itself, and its operands come from memory unless they fit in L2.
    """
    formula, compute, memory = _FORMULAS.get(kind), 0.0 * work.nbytes, 0.0 * work.nbytes
    if formula is not None:
        compute = formula(work, rates, c)
    if kind is not Kind.SCALAR:
        memory = _memory(work.nbytes, c[f"{kind}.memory"], rates, c)
    if kind in (Kind.BATCH_STATISTICS, Kind.COLUMN_SUMS):
        memory = memory + work.elements / (work.rows * c[f"{kind}.block"] * 1e9)
    launch = c["launch.kernel_us"] * 1e-6 + 0.0 * memory
    return KernelTime(
        compute=compute,
        memory=memory,
        launch=launch,
        total=_overlap(compute, memory, c["overlap"]) + launch,
    )


def _overlap(compute: Number, memory: Number, power: Number) -> Number:
    compute, memory = compute + _NOTHING, memory + _NOTHING
    larger = _largest(compute, memory)
    return larger * ((compute / larger) ** power + (memory / larger) ** power) ** (1.0 / power)


def _largest(a: Number, b: Number) -> Number:
    return (a + b + abs(a - b)) / 2.0


def _smallest(a: Number, b: Number) -> Number:
    return (a + b - abs(a - b)) / 2.0


def _up(value: Number, multiple: float) -> Number:
    return -(-value // multiple) * multiple


def _memory(nbytes: Number, efficiency: Number, rates: Rates, c: Mapping[str, Number]) -> Number:
    """Bytes that fit in L2 are found there by the next kernel, ``cache.gain`` faster."""
    cached = 1.0 / (1.0 + (nbytes / (rates.cache_bytes + 1.0)) ** 2.0)
    reached = _smallest(rates.bandwidth * efficiency, rates.peak_bandwidth)
    return nbytes / (reached * (1.0 + c["cache.gain"] * cached))


def _product(
    work: Any, rates: Rates, c: Mapping[str, Number], name: str, columns: Number
) -> Number:
    """Return the time of a product of tiles, of the size of tile that takes least.

    A convolution's channels may be padded. Sides are padded to whole tiles; each tile needs time to
    begin and to end (``prologue``, in elements of the inner side); narrow ones reuse less of what
    they load (``narrow``); and the last wave of tiles leaves processors idle (``tail``). cuBLAS
    splits a long inner side among them.
    """
    padding = work.padding * rates.pads_channels
    filter_side = 1.0 * work.is_filter_gradient  # the rows there, else the inner side
    rows, inner = work.rows + padding * filter_side, work.inner + padding * (1.0 - filter_side)
    narrow, idle = c[f"{name}.narrow"], c[f"{name}.tail"] * rates.processors
    depth = _up(inner, 32.0) + c[f"{name}.prologue"]
    last = idle * (_smallest(depth, _SPLIT) if name == "matmul" else depth)
    works = (
        (work.batch * -(-rows // height) * -(-columns // width) * depth + last)
        * (height * width * (1.0 + narrow / height + narrow / width))
        for height, width in _TILES
    )
    least = reduce(_smallest, works) / (1.0 + narrow / _TILES[0][0] + narrow / _TILES[0][1])
    return 2.0 * least / (rates.compute * c[f"{name}.compute"])


def _matmul(work: Any, rates: Rates, c: Mapping[str, Number]) -> Number:
    product = _product(work, rates, c, "matmul", work.columns)
    return product * c["matmul.unaligned"] ** (work.is_unaligned * rates.wants_alignment)


def _convolution(work: Any, rates: Rates, c: Mapping[str, Number]) -> Number:
    """With channels last, groups are padded to tiles of 128 unless they are a power of two.

    Groups of NCHW have kernels without tensor cores too, whose time goes with the FLOPs: narrow
    groups fill no tile (cuDNN's ``conv2d_grouped_direct_kernel``, ``wgrad2d_…``, ``dgrad2d_…``).
    """
    last, is_filter = 1.0 * work.is_channels_last, 1.0 * work.is_filter_gradient
    copied = _memory(work.copied_bytes, c["copy.memory"], rates, c)
    window = c["convolution.window"] * c["convolution.window_last"] ** last
    is_uneven = work.is_uneven_group * last
    columns = work.columns + is_uneven * (_up(work.columns, 128.0) - work.columns)
    groups = c["convolution.grouped"] ** (1.0 - is_filter)
    groups = groups * c["convolution.grouped_filter"] ** is_filter
    groups = groups * c["convolution.grouped_last"] ** last * (1.0 - 1.0 / work.batch)
    product = _product(work, rates, c, "convolution", columns) * _gradient(work, c, "convolution")
    product = product * (1.0 + window * (1.0 - 1.0 / work.window))
    product = product * (c["convolution.grouped_uneven"] ** is_uneven + groups)
    product = product * c["convolution.unaligned"] ** (work.is_unaligned * rates.wants_alignment)
    native = product * c["convolution.native"]
    tiled = product + _smallest(copied, native) * rates.copies_layout
    direct = work.flops / (rates.vector * c["convolution.direct"])
    has_direct = 1.0 * (work.batch > 1.0) * (1.0 - last)
    return tiled + (_smallest(tiled, direct) - tiled) * has_direct


def _recurrent(work: Any, rates: Rates, c: Mapping[str, Number]) -> Number:
    """Each step is a product and the gates' kernel, which wait for the step before."""
    steps = _product(work, rates, c, "matmul", work.columns) + c["recurrent.step_us"] * 1e-6
    return work.window * steps


def _depthwise(work: Any, rates: Rates, c: Mapping[str, Number]) -> Number:
    """A thread per pixel and channel: it begins, then goes over the window.

    For the filter's gradient of NCHW a block per weight goes over all pixels, each of which it
    finds anew: few weights leave processors idle. cuDNN has kernels for channels last.
    """
    is_filter, share = 1.0 * work.is_filter_gradient, 1.0 * work.is_channels_last
    window = work.flops * c["depthwise.any_size"] ** (1.0 * (work.window > _UNROLLED))
    steps = window + 2.0 * c["depthwise.begin"] * work.elements
    steps = steps * c["depthwise.data_gradient"] ** work.is_data_gradient
    wave = _largest(1.0, _RESIDENT * rates.processors / (work.batch * work.window))
    found = work.flops * c["depthwise.filter_gradient"] * wave
    steps = steps * (1.0 - is_filter) + found * is_filter
    last = work.flops + 2.0 * c["depthwise_last.begin"] * work.elements
    last = last * _gradient(work, c, "depthwise_last") / c["depthwise_last.compute"]
    last = last * c["depthwise_last.large"] ** (1.0 * (work.elements >= _INDEXED))
    return (last * share + steps / c["depthwise.compute"] * (1.0 - share)) / rates.vector


def _gradient(work: Any, c: Mapping[str, Number], name: str) -> Number:
    """Return the time of a gradient's kernel, of the forward's."""
    data, filter_ = c[f"{name}.data_gradient"], c[f"{name}.filter_gradient"]
    return data**work.is_data_gradient * filter_**work.is_filter_gradient


def _attention(work: Any, rates: Rates, c: Mapping[str, Number]) -> Number:
    """Blocks of 64 queries and 64 keys are computed whole, heads in widths of 32.

    Between its two products each score is scaled, compared, exponentiated and summed by the
    ordinary cores: the faster the tensor cores, the larger that part.
    """
    whole = _up(work.rows, 64.0) * _up(work.columns, 64.0) * _up(work.inner, 32.0)
    flops = work.flops * work.share * whole / (work.rows * work.columns * work.inner)
    scores = flops / (4.0 * _up(work.inner, 32.0))
    products = flops / (rates.compute * c["attention.compute"])
    return products + scores * c["attention.softmax"] / rates.vector


def _indexed(work: Any, rates: Rates, c: Mapping[str, Number]) -> Number:
    """Operands of several shapes or orders: divisions find where each element lies."""
    return work.elements * c["index.steps"] / rates.vector


def _norm(work: Any, rates: Rates, c: Mapping[str, Number]) -> Number:
    """Elements are summed and scaled in float32, and each row's threads combine their sums."""
    softmax = 1.0 * work.is_softmax
    each = c["norm.steps"] * (1.0 - softmax) + c["softmax.steps"] * softmax
    steps = (work.elements + work.padding) * each + work.rows * c["norm.combine"]
    return steps / rates.vector


def _pooling(work: Any, rates: Rates, c: Mapping[str, Number]) -> Number:
    steps = work.elements * (c["index.steps"] + c["pooling.steps"] * work.window)
    return steps / rates.vector


def _upsampling(work: Any, _: Rates, c: Mapping[str, Number]) -> Number:
    """Few pixels are few threads: each then waits for its own loads, image after image."""
    return work.inner * c["upsampling.step_us"] * 1e-6


_FORMULAS: Final[dict[Kind, Formula]] = {
    Kind.MATMUL: _matmul,
    Kind.CONVOLUTION: _convolution,
    Kind.DEPTHWISE: _depthwise,
    Kind.ATTENTION: _attention,
    Kind.BROADCAST: _indexed,
    Kind.COPY: _indexed,
    Kind.NORM: _norm,
    Kind.POOLING: _pooling,
    Kind.RECURRENT: _recurrent,
    Kind.UPSAMPLING: _upsampling,
}
