"""The kinds of kernels, and which operators run them: ``kinds.csv``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

from torchgauge.devices.tables import rows


class Kind(StrEnum):
    """How a kernel uses a device: one model of time per kind."""

    MATMUL = "matmul"
    """Dense products (cuBLAS), batched ones and the gates of recurrent networks."""
    CONVOLUTION = "convolution"
    """Dense and grouped convolutions as products of unfolded images (cuDNN, implicit GEMM)."""
    DEPTHWISE = "depthwise"
    """One filter per channel: no product to speak of, a stencil."""
    ATTENTION = "attention"
    """Fused attention: flash, memory-efficient, cuDNN's."""
    ELEMENTWISE = "elementwise"
    """Operands of one shape and dtype: vectorised loads and stores."""
    BROADCAST = "broadcast"
    """Operands of several shapes or dtypes: an index is computed for each element."""
    CAST = "cast"
    """A whole tensor from one dtype to another."""
    COPY = "copy"
    """Whole tensors moved: ``cat``, ``clone`` of what is permuted, padding, rolling."""
    NORM = "norm"
    """Layer, group and RMS normalisation; softmax: rows read, reduced and written."""
    BATCH_NORM = "batch_norm"
    """Normalisation by channel over a batch of images."""
    BATCH_STATISTICS = "batch_statistics"
    """Its means and variances, or the sums of its backward, in training."""
    RECURRENT = "recurrent"
    """The steps of a recurrent network, one after the other."""
    REDUCTION = "reduction"
    """Sums, means, maxima, and the statistics of losses."""
    POOLING = "pooling"
    """Windows over images, and resampling."""
    UPSAMPLING = "upsampling"
    """Bilinear and bicubic: a thread per pixel goes over all images and channels."""
    INDEXING = "indexing"
    """Rows looked up or written by an index: embeddings, gather, scatter."""
    MULTI_TENSOR = "multi_tensor"
    """Lists of tensors in a few kernels: foreach and fused optimizers."""
    SCALAR = "scalar"
    """Few elements: the launch is all that it costs."""


TABLE: Final = Path(__file__).with_suffix(".csv")


def _group(name: str) -> frozenset[str]:
    """Return the operators of a group; the table says what the groups are."""
    return frozenset(row["operator"] for row in rows(TABLE) if name in row["groups"].split())


NO_KERNEL: Final = _group("none")
MATMULS: Final = _group("matmul")
ATTENTIONS: Final = _group("attention")
NORMS: Final = _group("norm")
BATCH_NORMS: Final = _group("batch-norm")
REDUCTIONS: Final = _group("reduction")
POOLINGS: Final = _group("pooling")
WINDOWED: Final = _group("windowed")
INDEXINGS: Final = _group("indexing")
WRITTEN_ONLY: Final = _group("written-only")
LOOKED_UP: Final = _group("looked-up")
WRITTEN_BY_INDEX: Final = _group("written-by-index")
COPIES: Final = _group("copy")

PASSES: Final[dict[str, tuple[float, float]]] = {
    "native_group_norm": (2.0, 1.0),
    "native_group_norm_backward": (2.0, 1.0),
    "native_layer_norm_backward": (2.0, 1.0),
    "var": (2.0, 1.0),
    "std": (2.0, 1.0),
}
"""How often the operands are read and written where that is not once: statistics come first, and
then the elements again. In evaluation batch normalisation reads once."""
