"""CUDA's own kernels where plain meta tensors would take another path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.torch_version import TorchVersion

from torchgauge.trace.virtual import cuda_recurrent
from torchgauge.trace.virtual.base import VirtualDevice
from torchgauge.trace.virtual.cuda_attention import attention
from torchgauge.trace.virtual.cuda_shapes import SHAPE_RULES
from torchgauge.trace.virtual.packed import pad_packed_sequence


def batch_norm(
    source: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> torch.Tensor:
    """Normalise ``[N, C, ...]`` with cuDNN where it can, else with PyTorch's own kernel.

    Source: ``_select_batch_norm_backend`` and ``_batch_norm_impl_index`` in PyTorch's
    ``aten/src/ATen/native/Normalization.cpp`` (2.6–2.13).
    """
    aten = torch.ops.aten
    arguments = (source, weight, bias, running_mean, running_var, training, momentum, eps)
    result: torch.Tensor
    if cudnn_enabled and _cudnn_normalises(source, weight, bias, running_mean, training):
        layout = torch.channels_last if _is_channels_last(source) else torch.contiguous_format
        inputs = source.contiguous(memory_format=layout)
        result = aten.cudnn_batch_norm(inputs, *arguments[1:])[0]
    else:
        result = aten.native_batch_norm(*arguments)[0]
    return result


def _cudnn_normalises(
    source: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    training: bool,
) -> bool:
    if weight is None or bias is None or (running_mean is None and not training):
        return False
    if source.dtype == torch.bfloat16 or weight.dtype == torch.bfloat16:
        return False
    if source.dtype == torch.float16 and weight.dtype != torch.float32:
        return False
    return source.dim() >= 3 and source.shape[0] <= (880_801 if training else 65_535)


def _is_channels_last(source: torch.Tensor) -> bool:
    return (
        source.dim() == 4
        and not source.is_contiguous()
        and source.is_contiguous(memory_format=torch.channels_last)
    )


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
        return source.zero_()
    noise = torch.empty_like(source).bernoulli_(1 - p).div_(1 - p)
    return source.mul_(noise)


def virtual_device(capability: tuple[int, int], release: str) -> VirtualDevice:
    """Return the rules of a GPU of that compute capability under that release of PyTorch."""
    version = TorchVersion(release)
    kernels: dict[str, Callable[..., Any]] = {
        "batch_norm": batch_norm,
        "dropout": dropout,
        "dropout_": dropout_,
        "_pad_packed_sequence": pad_packed_sequence,
        "scaled_dot_product_attention": attention(capability, version),
        **cuda_recurrent.KERNELS,
    }
    return VirtualDevice(
        type="cuda", kernels=kernels, shape_rules=SHAPE_RULES, foreach=True, host_states=True
    )
