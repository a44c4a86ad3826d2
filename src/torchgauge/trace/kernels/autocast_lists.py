"""What ``torch.autocast`` casts, by device: operators by policy.

Source: the ``AT_FORALL_…`` lists and the ``AutocastCPU`` registrations in PyTorch's
``aten/src/ATen/autocast_mode.{h,cpp}`` (2.6–2.14), and https://pytorch.org/docs/stable/amp.html.
A name without an overload stands for ``.default``; one that a release does not have is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Policy(StrEnum):
    """What happens to the floating-point arguments of an operator."""

    LOWER = "lower"
    """Cast to the dtype of autocast."""
    FLOAT32 = "float32"
    """Cast to float32."""
    FLOAT32_OUTPUT = "float32_output"
    """Left as they are; half-precision input asks for a float32 output with ``dtype=``."""
    FLOAT16 = "float16"
    """Cast to float16 whatever the dtype of autocast, weights anew on each call."""
    FLOAT32_APPENDED = "float32_appended"
    """The overload that takes a ``dtype`` runs, and gets float32 for floating-point input."""
    BANNED = "banned"
    """Refused while autocast is on."""
    PROMOTE = "promote"
    """Cast to the widest dtype among them."""


_CUDA: dict[Policy, str] = {
    Policy.LOWER: """
        _convolution.deprecated _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d
        conv_transpose2d.input conv_transpose3d.input convolution prelu addmm addmv addr matmul
        einsum mm mv linalg_vecdot linear addbmm baddbmm bmm chain_matmul linalg_multi_dot
        _thnn_fused_lstm_cell _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
        scaled_dot_product_attention _scaled_dot_product_flash_attention
    """,
    Policy.FLOAT16: "_cudnn_rnn",  # ``aten/src/ATen/cudnn/AutocastRNN.cpp``
    Policy.FLOAT32: """
        acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan
        pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm
        rms_norm group_norm frobenius_norm.dim nuclear_norm nuclear_norm.dim cosine_similarity
        poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div
        l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss multilabel_margin_loss
        soft_margin_loss triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits
        dist pdist cdist renorm logsumexp upsample_nearest1d _upsample_nearest_exact1d
        upsample_nearest2d _upsample_nearest_exact2d upsample_nearest3d _upsample_nearest_exact3d
        upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa upsample_trilinear3d
        upsample_bicubic2d _upsample_bicubic2d_aa
    """,
    Policy.FLOAT32_OUTPUT: """
        prod prod.dim_int softmax.int log_softmax.int cumprod cumsum sum sum.dim_IntList
        linalg_vector_norm linalg_matrix_norm linalg_matrix_norm.str_ord
    """,
    Policy.FLOAT32_APPENDED: "norm.Scalar norm.ScalarOpt_dim",
    Policy.BANNED: "binary_cross_entropy",
    Policy.PROMOTE: """
        addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add
    """,
}
_CPU: dict[Policy, str] = {
    Policy.LOWER: """
        conv1d conv1d.padding conv2d conv2d.padding conv3d conv3d.padding bmm mm linalg_vecdot
        baddbmm addmm addbmm linear _convolution.deprecated matmul conv_tbc mkldnn_rnn_layer
        conv_transpose1d conv_transpose2d.input conv_transpose3d.input prelu
        scaled_dot_product_attention _native_multi_head_attention _addmm_activation
    """,
    Policy.FLOAT32: """
        avg_pool3d binary_cross_entropy grid_sampler polar prod prod.dim_int quantile
        quantile.scalar nanquantile nanquantile.scalar stft cdist grid_sampler_2d
        _grid_sampler_2d_cpu_fallback grid_sampler_3d trace view_as_complex cholesky
        cholesky_inverse cholesky_solve inverse lu_solve orgqr ormqr pinverse max_pool3d
        max_unpool2d max_unpool3d adaptive_avg_pool3d reflection_pad1d reflection_pad2d
        replication_pad1d replication_pad2d replication_pad3d mse_loss cosine_embedding_loss
        nll_loss nll_loss2d hinge_embedding_loss poisson_nll_loss cross_entropy_loss l1_loss
        huber_loss margin_ranking_loss soft_margin_loss triplet_margin_loss multi_margin_loss
        ctc_loss.IntList ctc_loss.Tensor kl_div multilabel_margin_loss
        binary_cross_entropy_with_logits fft_fft fft_ifft fft_fft2 fft_ifft2 fft_fftn fft_ifftn
        fft_rfft fft_irfft fft_rfft2 fft_irfft2 fft_rfftn fft_irfftn fft_hfft fft_ihfft
        smooth_l1_loss multilabel_margin_loss_forward stft.center fake_quantize_per_tensor_affine
        adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d linalg_cond
        linalg_cond.p_str linalg_matrix_rank linalg_matrix_rank.atol_rtol_float
        linalg_matrix_rank.atol_rtol_tensor linalg_matrix_rank.tol_tensor linalg_solve
        linalg_cholesky linalg_cholesky_ex linalg_svd linalg_svdvals linalg_eig linalg_eigvals
        linalg_eigh linalg_eigvalsh linalg_inv linalg_inv_ex linalg_householder_product linalg_qr
        linalg_lstsq linalg_tensorinv linalg_tensorsolve qr svd triangular_solve geqrf
        _lu_with_info linalg_matrix_sqrth
    """,
    Policy.PROMOTE: """
        stack cat index_copy
    """,
}


def _by_operator(lists: Mapping[Policy, str]) -> dict[str, Policy]:
    return {
        name if "." in name else f"{name}.default": policy
        for policy, names in lists.items()
        for name in names.split()
    }


POLICIES: dict[str, dict[str, Policy]] = {"cuda": _by_operator(_CUDA), "cpu": _by_operator(_CPU)}
"""By type of device: the policy of each operator of ``aten``, overload included."""
_RELEASES: dict[str, dict[str, tuple[str, str]]] = {
    "cuda": {"rms_norm.default": ("2.12", "9")},
    "cpu": {
        "cholesky.default": ("0", "2.13"),
        "qr.default": ("0", "2.13"),
        "linalg_matrix_sqrth.default": ("2.14", "9"),
    },
}
"""The first and the last release that has an operator on a list, where that is not every one
after 2.6 (pull request 174824, the ``torch._C._dispatch_dump`` of 2.6, 2.8–2.12 in issue 14104 of
huggingface/diffusers, and that of 2.14)."""
WITH_DTYPE = {
    "norm.Scalar": "norm.ScalarOpt_dtype",
    "norm.ScalarOpt_dim": "norm.ScalarOpt_dim_dtype",
}
"""Overload that ``FLOAT32_APPENDED`` runs instead."""


def policies_of(device_type: str, release: str) -> dict[str, Policy]:
    """Return the policies of a type of device under a release of PyTorch such as ``"2.6"``."""
    releases = _RELEASES[device_type]
    current = _numbers(release)

    def is_listed(name: str) -> bool:
        first, last = releases.get(name, ("0", "9"))
        return _numbers(first) <= current <= _numbers(last)

    return {name: policy for name, policy in POLICIES[device_type].items() if is_listed(name)}


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split(".")[:2] if part.isdecimal())
