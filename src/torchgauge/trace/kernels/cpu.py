"""The CPU's own kernels where plain meta tensors would take another path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.torch_version import TorchVersion

from torchgauge.trace.kernels import matrices, packed_recurrent, products, recurrent
from torchgauge.trace.kernels.autocast_lists import policies_of
from torchgauge.trace.kernels.base import VirtualDevice
from torchgauge.trace.kernels.packed_recurrent import pad_packed_sequence
from torchgauge.trace.shapes.kernels import CPU_RULES
from torchgauge.trace.shapes.layouts import channels_last
from torchgauge.trace.shapes.losses import ctc_loss
from torchgauge.trace.torch_internals.chosen_kernels import cpu_chooses_flash

Attention: TypeAlias = Callable[..., torch.Tensor]
_FIRST_WITHOUT_BATCH = TorchVersion("2.14.0.dev0")
"""From here on attention on three dimensions may take a fused kernel."""
_FLASH_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def takes_flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None,
    dropout_p: float,
    enable_gqa: bool,
) -> bool:
    """Return whether the CPU runs its flash attention kernel; it runs the math path otherwise.

    Shapes: query ``[B, H, L, E]``, key ``[B, H, S, E]``, value ``[B, H, S, Ev]``.
    Source: ``select_sdp_backend_cpp`` and ``use_flash_attention_cpp`` in PyTorch's
    ``aten/src/ATen/native/transformers/sdp_utils_cpp.cpp`` (2.6–2.13).
    """
    tensors = (query, key, value)
    if dropout_p > 0.0 or query.dtype not in _FLASH_DTYPES:
        return False
    if any(tensor.dim() != 4 or tensor.stride(-1) != 1 for tensor in tensors):
        return False
    if not query.shape[-1] == key.shape[-1] == value.shape[-1]:
        return False
    if query.shape[-2] == 0 or key.shape[-2] == 0:
        return False
    heads = {tensor.shape[1] for tensor in (tensors if not enable_gqa else tensors[1:])}
    if len(heads) > 1 or len({tensor.shape[0] for tensor in tensors}) > 1:
        return False
    if attn_mask is not None and (attn_mask.requires_grad or attn_mask.dim() not in (2, 4)):
        return False
    return cpu_chooses_flash(grouped=query.shape[1] != key.shape[1])


def check_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> None:
    """Refuse what PyTorch refuses on every device (``validate_sdpa_input`` in the same file).

    Raises:
        RuntimeError: for tensors of several dtypes or of less than two dimensions.
    """
    tensors = {"query": query, "key": key, "value": value}
    if len({tensor.dtype for tensor in tensors.values()}) > 1:
        given = ", ".join(f"{name}.dtype: {t.dtype}" for name, t in tensors.items())
        raise RuntimeError(
            f"Expected query, key, and value to have the same dtype, but got {given} instead."
        )
    if any(tensor.dim() < 2 for tensor in tensors.values()):
        given = ", ".join(f"{name}.dim: {t.dim()}" for name, t in tensors.items())
        raise RuntimeError(
            "Expected query, key, and value to all be  at least 2 dimensional, but got "
            f"{given} instead."
        )
    if mask is not None and mask.dtype not in (torch.bool, torch.float32, query.dtype):
        raise RuntimeError(
            "Expected attn_mask dtype to be bool or float or to match query dtype, but got "
            f"attn_mask.dtype: {mask.dtype} and  query.dtype: {query.dtype} instead."
        )


def additive_mask(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """Turn a boolean mask into one that is added; a mask of numbers stays as it is.

    Source: ``convert_boolean_attn_mask`` in PyTorch's
    ``aten/src/ATen/native/transformers/attention.cpp`` (2.6–2.13), for every device.
    """
    if mask is None or mask.dtype != torch.bool:
        return mask
    excluded = torch.scalar_tensor(float("-inf"), dtype=dtype, device=mask.device)
    return torch.where(mask, 0.0, excluded)


def without_batch(attention: Attention, release: TorchVersion) -> Attention:
    """Return attention that runs three dimensions as a batch of one, where the release does.

    Query, key and value ``[H, L, E]`` become ``[1, H, L, E]``, and a mask of less than four
    dimensions gets as many. Measured, on the operators that 2.14 dispatches.
    """

    def scaled_dot_product_attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        *args: Any,
        **options: Any,
    ) -> torch.Tensor:
        tensors = (query, key, value)
        if any(tensor.dim() != 3 or tensor.is_nested for tensor in tensors):
            return attention(*tensors, attn_mask, *args, **options)
        check_attention(*tensors, attn_mask)
        query, key, value = (tensor.unsqueeze(0) for tensor in tensors)
        while attn_mask is not None and attn_mask.dim() < 4:
            attn_mask = attn_mask.unsqueeze(0)
        return attention(query, key, value, attn_mask, *args, **options).squeeze(0)

    return scaled_dot_product_attention if release >= _FIRST_WITHOUT_BATCH else attention


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Run attention as a CPU would: flash where it can, math elsewhere."""
    aten = torch.ops.aten
    check_attention(query, key, value, attn_mask)
    attn_mask = additive_mask(attn_mask, query.dtype)
    if takes_flash(query, key, value, attn_mask, dropout_p, enable_gqa):
        result: torch.Tensor = aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
        )[0]
        return result
    output: torch.Tensor = aten._scaled_dot_product_attention_math(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )[0]
    return output


def _normalized_nothing(
    source: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None
) -> torch.Tensor:
    """Normalise no elements, of any rank; a new tensor keeps the chain of gradients.

    Source: ``_batch_norm_impl_index`` in PyTorch's ``aten/src/ATen/native/Normalization.cpp``.
    """
    output = source.clone()
    if weight is not None:
        output = output * weight[0]
    return output if bias is None else output + bias[0]


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
    """Normalise ``[N, C, ...]`` with the CPU's one kernel for training and evaluation.

    Source: ``_batch_norm_impl_index`` in PyTorch's ``aten/src/ATen/native/Normalization.cpp``,
    which makes an empty reserve first.
    """
    if source.numel() == 0:
        return _normalized_nothing(source, weight, bias)
    reserve = torch.empty(0, dtype=torch.uint8, device=source.device)
    result: torch.Tensor = torch.ops.aten.native_batch_norm(
        source, weight, bias, running_mean, running_var, training, momentum, eps
    )[0]
    del reserve
    return result


def group_norm(
    source: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> torch.Tensor:
    """Normalise groups of ``[N, C, ...]``; the CPU keeps a channels-last layout.

    Source: ``group_norm`` in PyTorch's ``aten/src/ATen/native/group_norm.cpp``.
    """
    batch, channels = source.shape[:2]
    if channels % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input "
            f"of shape {list(source.shape)} and num_groups={num_groups}"
        )
    for name, given in (("weight", weight), ("bias", bias)):
        if given is not None and (given.dim() != 1 or given.shape[0] != channels):
            raise RuntimeError(
                f"Expected {name} to be a vector of size equal to the number of channels in input, "
                f"but got {name} of shape {list(given.shape)} and input of shape "
                f"{list(source.shape)}"
            )
    layout = channels_last(source) or torch.contiguous_format
    positions = source.numel() // max(1, batch * channels)
    result: torch.Tensor = torch.ops.aten.native_group_norm(
        source.contiguous(memory_format=layout),
        weight, bias, batch, channels, positions, num_groups, eps,
    )[0]  # fmt: skip
    return result


def one_hot(indices: torch.Tensor, num_classes: int = -1) -> torch.Tensor:
    """Write ones into zeros ``[..., num_classes]``; PyTorch compares on the meta device.

    Whether indices are in range is not looked at. Source: ``one_hot`` in PyTorch's
    ``aten/src/ATen/native/Onehot.cpp``.
    """
    if num_classes == -1 and indices.numel() > 0:
        num_classes = int(indices.max().item()) + 1
    if indices.dtype is not torch.int64 or num_classes <= 0:
        raise RuntimeError(
            f"one_hot needs int64 indices and at least one class, not {indices.dtype} and "
            f"{num_classes} classes"
        )
    shape = (*indices.shape, num_classes)
    if indices.numel() == 0:
        return torch.empty(shape, dtype=torch.int64, device=indices.device)
    made = torch.zeros(shape, dtype=torch.int64, device=indices.device)
    return made.scatter_(-1, indices.unsqueeze(-1), 1)


def tensor_split(source: torch.Tensor, places: torch.Tensor, dim: int = 0) -> Any:
    """Split at places, or into a number of parts, that a tensor on the CPU says.

    Source: ``tensor_split`` in PyTorch's ``aten/src/ATen/native/TensorShape.cpp``, which reads the
    tensor's memory.
    """
    if places.dim() == 0:
        return torch.tensor_split(source, int(places.item()), dim)
    return torch.tensor_split(source, [int(place.item()) for place in places.unbind()], dim)


def max_pool1d(
    source: torch.Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> torch.Tensor:
    """Pool ``[N, C, L]``; the CPU keeps no indices where no gradient is asked for.

    Source: ``max_pool1d`` in PyTorch's ``aten/src/ATen/native/MaxPooling.cpp`` (2.6–2.13).
    """
    if torch.is_grad_enabled() and source.requires_grad:
        result: torch.Tensor = torch.ops.aten.max_pool1d_with_indices(
            source, kernel_size, stride, padding, dilation, ceil_mode
        )[0]
        return result
    sizes = [(1, *(size or kernel_size)) for size in (kernel_size, stride, dilation)]
    pooled: torch.Tensor = torch.ops.aten.mkldnn_max_pool2d(
        source.unsqueeze(-2), sizes[0], sizes[1], (0, *padding), sizes[2], ceil_mode
    )
    return pooled.squeeze(-2)


KERNELS: dict[str, Callable[..., Any]] = {
    "batch_norm": batch_norm,
    "one_hot": one_hot,
    "tensor_split.tensor_indices_or_sections": tensor_split,
    "group_norm": group_norm,
    "max_pool1d": max_pool1d,
    "_pad_packed_sequence": pad_packed_sequence,
    "ctc_loss.IntList": ctc_loss,
    "scaled_dot_product_attention": without_batch(
        scaled_dot_product_attention, TorchVersion(torch.__version__)
    ),
    **matrices.KERNELS,
    **products.KERNELS,
    **recurrent.KERNELS,
    **packed_recurrent.KERNELS,
}
"""Composite operators that the CPU resolves in its own way."""

DEVICE = VirtualDevice(
    type="cpu",
    kernels=KERNELS,
    shape_rules=CPU_RULES,
    autocast=policies_of("cpu", torch.__version__),
    foreach=False,
    fused=frozenset({"mish_backward", "native_channel_shuffle"}),
    host_states=False,
)
