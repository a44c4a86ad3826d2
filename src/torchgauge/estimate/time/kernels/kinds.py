"""Which kernels an operator runs, by kind, as data.

``aten`` packets stand without their namespace and without the underscore of the in-place variant.
What no table names is element-wise, if ``elementwise.py`` knows it, or a copy.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from torchgauge.estimate.compute.registry import names


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


NO_KERNEL: Final = names("""
    empty empty_like empty_permuted empty_strided new_empty new_empty_strided _unsafe_view
    _reshape_alias resize set record_stream _cudnn_init_dropout_state lift_fresh
    _has_same_storage_numel _efficientzerotensor
    """)
"""Launch nothing: memory is taken or named."""

MATMULS: Final = names("""
    mm addmm bmm baddbmm addbmm addmv mv dot vdot linear matmul _addmm_activation _int_mm _scaled_mm
    """)
ATTENTIONS: Final = names("""
    _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_backward
    _scaled_dot_product_efficient_attention _scaled_dot_product_efficient_attention_backward
    _scaled_dot_product_cudnn_attention _scaled_dot_product_cudnn_attention_backward
    """)
"""``(q, k, v, …)`` or ``(gradient, q, k, v, …)``, heads before tokens."""
NORMS: Final = names("""
    native_layer_norm native_layer_norm_backward native_group_norm native_group_norm_backward
    _fused_rms_norm _fused_rms_norm_backward _softmax _softmax_backward_data _safe_softmax
    _log_softmax _log_softmax_backward_data _masked_softmax
    """)
BATCH_NORMS: Final = names("""
    cudnn_batch_norm cudnn_batch_norm_backward native_batch_norm native_batch_norm_backward
    _native_batch_norm_legit _native_batch_norm_legit_no_training _batch_norm_with_update
    batch_norm_backward _batch_norm_no_update
    """)
REDUCTIONS: Final = names("""
    sum mean amax amin max min argmax argmin var var_mean std std_mean norm linalg_vector_norm
    any all prod logsumexp cumsum cumprod nll_loss_forward nll_loss2d_forward count_nonzero
    aminmax topk sort
    """)
POOLINGS: Final = names("""
    max_pool2d_with_indices max_pool2d_with_indices_backward avg_pool2d avg_pool2d_backward
    max_pool3d_with_indices max_pool3d_with_indices_backward avg_pool3d avg_pool3d_backward
    _adaptive_avg_pool2d _adaptive_avg_pool2d_backward adaptive_max_pool2d
    adaptive_max_pool2d_backward upsample_nearest2d upsample_nearest2d_backward
    upsample_bilinear2d_backward upsample_bicubic2d_backward
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d grid_sampler_2d_backward im2col
    col2im
    """)
WINDOWED: Final = names("max_pool2d_with_indices avg_pool2d")
"""Of the poolings: a window of a size that does not depend on the image's."""
INDEXINGS: Final = names("""
    embedding embedding_dense_backward index index_put _unsafe_index _unsafe_index_put gather
    scatter scatter_add index_select index_add index_copy take masked_select _index_put_impl
    _embedding_bag _embedding_bag_backward slice_backward select_backward nonzero
    """)
WRITTEN_ONLY: Final = names("""
    zeros ones full zero fill zeros_like ones_like full_like new_zeros new_ones new_full bernoulli
    uniform normal arange
    """)
LOOKED_UP: Final = names("embedding index index_select gather _unsafe_index")
WRITTEN_BY_INDEX: Final = names("index_put _index_put_impl scatter scatter_add")
COPIES: Final = names("""
    cat stack clone copy constant_pad_nd pad roll flip repeat repeat_interleave reflection_pad2d
    reflection_pad2d_backward replication_pad2d replication_pad2d_backward contiguous tril triu
    pixel_shuffle pixel_unshuffle native_channel_shuffle channel_shuffle unfold_backward
    slice_scatter select_scatter diagonal_scatter
    """)
"""Their operands are permuted or padded, or lie apart."""

PASSES: Final[dict[str, tuple[float, float]]] = {
    "native_group_norm": (2.0, 1.0),
    "native_group_norm_backward": (2.0, 1.0),
    "native_layer_norm_backward": (2.0, 1.0),
    "var": (2.0, 1.0),
    "std": (2.0, 1.0),
}
"""How often the operands are read and written where that is not once: statistics come first, and
then the elements again. In evaluation batch normalisation reads once."""
