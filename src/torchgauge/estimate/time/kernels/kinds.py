"""The kinds of kernels, and which operators run them: ``kinds.csv``."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from torchgauge.devices.tables import rows_beside


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
    COLUMN_SUMS = "column_sums"
    """Sums over all rows for the gradients of a layer norm's weight and bias."""
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


_NONE: Final = "none"
_ROWS: Final = rows_beside(__file__)
KIND_OF: Final = {row["operator"]: Kind(row["kind"]) for row in _ROWS if row["kind"]}
READS: Final = {row["operator"]: float(row["reads"]) for row in _ROWS if row["reads"]}
RULE_OF: Final = {row["operator"]: row["rule"] for row in _ROWS if row["rule"] not in ("", _NONE)}
"""The function of ``operators.py`` or ``products.py`` that says what runs."""
NO_KERNEL: Final = frozenset(row["operator"] for row in _ROWS if row["rule"] == _NONE)
