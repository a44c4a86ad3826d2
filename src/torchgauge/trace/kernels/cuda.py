"""CUDA's own kernels where plain meta tensors would take another path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.torch_version import TorchVersion

from torchgauge.trace.kernels import cpu, cuda_recurrent, matrices, products
from torchgauge.trace.kernels.autocast_lists import policies_of
from torchgauge.trace.kernels.base import VirtualDevice
from torchgauge.trace.kernels.cpu import one_hot, tensor_split, without_batch
from torchgauge.trace.kernels.cuda_attention import attention, takes_kernel
from torchgauge.trace.kernels.packed_recurrent import pad_packed_sequence
from torchgauge.trace.shapes.layouts import channels_last
from torchgauge.trace.shapes.losses import ctc_loss
from torchgauge.trace.shapes.normalization import check_channels, layer_norm
from torchgauge.trace.shapes.rule import META, Args, Gradients, Kwargs, Rule, Tensors, made
from torchgauge.trace.torch_internals.kernels import is_composite

_HALF = (torch.float16, torch.bfloat16)


def _accumulated(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that statistics of such tensors have on CUDA (``toAccumulateType``)."""
    return torch.float32 if dtype in _HALF else dtype


def _layer_norm(args: Args, kwargs: Kwargs) -> Tensors:
    return layer_norm(args, _accumulated(args[0].dtype), "normalisation")


def _rms_norm(args: Args, kwargs: Kwargs) -> Tensors:
    """``[..., *normalized] → [..., *normalized]`` and one statistic ``[..., 1, 1, …]``."""
    return _layer_norm(args, kwargs)[:2]


def _rms_norm_backward(args: Args, kwargs: Kwargs) -> Gradients:
    """Gradients of input and weight, as ``output_mask`` asks."""
    source, weight, mask = args[1], args[4], args[5]
    return tuple(
        made(tensor.shape, tensor.dtype) if wanted and tensor is not None else None
        for tensor, wanted in zip((source, weight), mask, strict=True)
    )


def _native_batch_norm(args: Args, kwargs: Kwargs) -> Tensors:
    """``[N, C, ...] → [N, C, ...]`` and mean, inverse deviation ``[C]`` (empty in evaluation)."""
    source, training = args[0], args[5]
    check_channels(args)
    size = source.shape[1] if training else 0
    dtype = _accumulated(source.dtype)
    stats = [made(size, dtype) for _ in range(2)]
    return torch.empty_like(source), *stats


def _cudnn_batch_norm(args: Args, kwargs: Kwargs) -> Tensors:
    """``[N, C, ...] → [N, C, ...]``, statistics ``[C]`` in the weight's dtype, an empty reserve."""
    source, weight, training = args[0], args[1], args[5]
    check_channels(args)
    size = source.shape[1] if training else 0
    stats = [made(size, weight.dtype) for _ in range(2)]
    return torch.empty_like(source), *stats, made(0, torch.uint8)


def _cudnn_batch_norm_backward(args: Args, kwargs: Kwargs) -> Tensors:
    """Gradients of input, weight and bias."""
    source, weight = args[0], args[2]
    parts = [made(weight.shape, weight.dtype) for _ in range(2)]
    return torch.empty_like(source), *parts


def _cudnn_attention(args: Args, kwargs: Kwargs) -> tuple[Any, ...]:
    """``[N, H, L, E], [N, H, S, E], [N, H, S, V] → [N, H, L, V]``, in the query's order of strides.

    Also the log-sum-exp of each row, and the state of the random number generator. The
    meta kernel of 2.6 gives a contiguous output. Source: ``run_cudnn_SDP_fprop`` in PyTorch's
    ``aten/src/ATen/native/cudnn/MHA.cpp`` (``alloc_with_matching_layout``).
    """
    query, key, value = args[:3]
    shape = (*query.shape[:3], value.shape[3])
    order = sorted(range(4), key=query.stride, reverse=True)
    output = torch.empty_permuted(shape, order, dtype=query.dtype, device=META)
    sums = made((*query.shape[:3], 1), torch.float32)
    seed, offset = (made((), torch.int64) for _ in range(2))
    return output, sums, None, None, query.shape[2], key.shape[2], seed, offset, None


SHAPE_RULES: dict[str, Rule] = {
    "aten._fused_rms_norm.default": _rms_norm,
    "aten._scaled_dot_product_cudnn_attention.default": _cudnn_attention,
    "aten._fused_rms_norm_backward.default": _rms_norm_backward,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_batch_norm.default": _native_batch_norm,
    "aten.cudnn_batch_norm.default": _cudnn_batch_norm,
    "aten.cudnn_batch_norm_backward.default": _cudnn_batch_norm_backward,
    "aten._linalg_svd.default": lambda args, kwargs: NotImplemented,  # as PyTorch: by rows
    **cuda_recurrent.SHAPE_RULES,
}
"""Rules by operator; each makes the outputs from ``(args, kwargs)``."""


_MOST_SAMPLES_TRAINING = 880_801
_MOST_SAMPLES = 65_535
"""Samples that cuDNN's spatial normalisation takes, in training and in evaluation."""
_INDEXABLE = 2**31 - 1
_FIRST_FUSED_RMS_NORM = TorchVersion("2.9.0.dev0")


def batch_norm(source: torch.Tensor, weight: torch.Tensor | None, *rest: Any) -> torch.Tensor:
    """Normalise ``[N, C, ...]`` with cuDNN where it can, else with PyTorch's own kernel.

    Source: ``_select_batch_norm_backend`` and ``_batch_norm_impl_index`` in PyTorch's
    ``aten/src/ATen/native/Normalization.cpp`` (2.6–2.13).
    """
    *arguments, cudnn_enabled = rest
    if not (source.numel() and cudnn_enabled and _cudnn_normalises(source, weight, *arguments[:4])):
        return cpu.batch_norm(source, weight, *rest)
    layout = channels_last(source) or torch.contiguous_format
    inputs = source.contiguous(memory_format=layout)
    result: torch.Tensor = torch.ops.aten.cudnn_batch_norm(inputs, weight, *arguments)[0]
    return result


def _cudnn_normalises(
    source: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    training: bool,
) -> bool:
    """Return ``_select_batch_norm_backend``; what cuDNN is left out of, and why it says in C++."""
    if weight is None or bias is None:
        return False
    statistics = running_mean is not None, running_var is not None
    if statistics != (True, True) and not (training and statistics == (False, False)):
        return False
    if torch.bfloat16 in (source.dtype, weight.dtype):
        return False
    if source.dtype == torch.float16 and weight.dtype != torch.float32:
        return False
    most = _MOST_SAMPLES_TRAINING if training else _MOST_SAMPLES
    return bool(source.dim() >= 3 and source.shape[0] <= most and source.numel() < _INDEXABLE)


def rms_norm(
    source: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    eps: float | None = None,
) -> torch.Tensor:
    """Normalise by root mean square in one kernel, which keeps one number a row.

    Source: ``rms_norm_symint`` in PyTorch's ``aten/src/ATen/native/layer_norm.cpp`` (2.9–2.13):
    not for complex numbers or a weight of another dtype.
    """
    operator = torch.ops.aten._fused_rms_norm.default
    alike = weight is None or weight.dtype == source.dtype
    run = operator if alike and not source.is_complex() else operator.decompose
    result: torch.Tensor = run(source, list(normalized_shape), weight, eps)[0]
    return result


def _fuses_rms_norm(release: TorchVersion) -> bool:
    """Return whether a release has the kernel (pull request 153666 of 2025), as the installed."""
    operator = getattr(torch.ops.aten, "_fused_rms_norm", None)
    return (
        release >= _FIRST_FUSED_RMS_NORM and operator is not None and is_composite(operator.default)
    )


def softmax(source: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Take the softmax of float16 in float32 without a copy in float32.

    Source: ``softmax`` and ``log_softmax`` in PyTorch's ``aten/src/ATen/native/SoftMax.cpp``.
    """
    return _normalised(torch.ops.aten._softmax, source, dim, dtype)


def log_softmax(source: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Take the logarithm of the softmax, as ``softmax`` does."""
    return _normalised(torch.ops.aten._log_softmax, source, dim, dtype)


def _normalised(
    operator: Any, source: torch.Tensor, dim: int, dtype: torch.dtype | None
) -> torch.Tensor:
    fuses_cast = source.dtype == torch.float16 and dtype == torch.float32
    if dtype is not None and not fuses_cast:
        source = source.to(dtype)
    result: torch.Tensor = operator(source, dim, fuses_cast)
    return result


def dropout(source: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    """Drop elements with the fused kernel, which keeps a mask of one byte per element.

    Source: ``dropout`` in PyTorch's ``aten/src/ATen/native/Dropout.cpp`` (2.6–2.13).
    """
    if not train or p == 0 or source.numel() == 0:
        return source
    if p == 1:
        return source.mul(torch.zeros((), dtype=source.dtype, device=source.device))
    result: torch.Tensor = torch.ops.aten.native_dropout(source, p, train)[0]
    return result


def dropout_(source: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    """Drop elements in place: a mask in the input's dtype, as ``_dropout_impl`` makes it."""
    if not train or p == 0 or source.numel() == 0:
        return source
    if p == 1:
        return source.mul_(torch.zeros((), dtype=source.dtype, device=source.device))
    noise = torch.empty_like(source, memory_format=torch.contiguous_format)
    return source.mul_(noise.bernoulli_(1 - p).div_(1 - p))


_FIRST_WITH_FP8 = (8, 9)


def _refuse_fp8(args: Args, kwargs: Kwargs) -> Any:
    """Refuse FP8 products as PyTorch does (``_scaled_mm_out_cuda`` in ``cuda/Blas.cpp``).

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        "torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0 or 8.9, "
        "or ROCm MI300+"
    )


_NO_FP8 = {f"aten.{name}.default": _refuse_fp8 for name in ("_scaled_mm", "_scaled_mm_v2")}


def virtual_device(capability: tuple[int, int], release: str) -> VirtualDevice:
    """Return the rules of a GPU of that compute capability under that release of PyTorch."""
    version = TorchVersion(release)
    kernels: dict[str, Callable[..., Any]] = {
        "batch_norm": batch_norm,
        "dropout": dropout,
        "dropout_": dropout_,
        "one_hot": one_hot,
        "tensor_split.tensor_indices_or_sections": tensor_split,
        "softmax.int": softmax,
        "log_softmax.int": log_softmax,
        "_pad_packed_sequence": pad_packed_sequence,
        "ctc_loss.IntList": ctc_loss,
        "scaled_dot_product_attention": without_batch(attention(capability, version), version),
        **matrices.KERNELS,
        **products.KERNELS,
        **cuda_recurrent.KERNELS,
    }
    fused = _fuses_rms_norm(version)
    if fused:
        kernels["rms_norm"] = rms_norm
    return VirtualDevice(
        type="cuda",
        kernels=kernels,
        shape_rules=SHAPE_RULES if capability >= _FIRST_WITH_FP8 else {**SHAPE_RULES, **_NO_FP8},
        autocast=policies_of("cuda", release),
        fused=frozenset({"mish_backward", *(["_fused_rms_norm"] if fused else [])}),
        takes_attention_kernel=takes_kernel(capability, version),
        foreach=True,
        host_states=True,
    )
