"""PyTorch's fused fast path of attention in an inference, by the operators that its kernels call.

``nn.MultiheadAttention`` and ``nn.TransformerEncoderLayer`` hand all their work to one kernel where
nothing needs a gradient. Their own code decides so here as well; what the kernel multiplies and
allocates is run step by step, each under the layer whose weights it takes.

Sources: ``native_multi_head_attention_cpu`` in PyTorch's
``aten/src/ATen/native/transformers/attention.cpp``, ``native_multi_head_attention_cuda`` in
``transformers/cuda/attention.cu``, ``transformer_encoder_layer_forward`` in
``transformers/transformer.cpp`` (2.6–2.13).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import nn

from torchgauge.trace.inspect.tree import walk
from torchgauge.trace.torch_internals.autocast import autocast_of_the_caller

aten = torch.ops.aten
_ATTENTION = "aten._native_multi_head_attention.default"
_LAYER = "aten._transformer_encoder_layer_fwd.default"
_WIDTHS = 8
"""What the width of a head is a multiple of where CUDA takes its own attention kernels."""


class Calls(Protocol):
    """Where module calls are noted: a recorder."""

    def place(self) -> str:
        """Return the path of the module that runs."""

    def wrap_forward(
        self, path: str, inner: Callable[..., Any], function: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Return a forward that notes each call of ``inner`` under ``path``."""


class FusedAttention:
    """Runs the fused kernels of attention by the operators that they call."""

    def __init__(
        self, calls: Calls, root: nn.Module, takes_kernel: Callable[..., bool] | None
    ) -> None:
        """Know the layers by their weights.

        ``takes_kernel(query, key, value)`` says whether the device has an attention kernel that it
        prefers to plain products; the CPU has none.
        """
        self._calls = calls
        self._root = root
        self._takes_kernel = takes_kernel

    @property
    def kernels(self) -> dict[str, Callable[..., Any]]:
        """Return them by operator, overload included."""
        return {_ATTENTION: self.attention, _LAYER: self.encoder_layer}

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return {path: module for path, module, first in walk(self._root) if first is None}

    @cached_property
    def _owners(self) -> dict[int, str]:
        return {
            id(parameter): path
            for path, module in self._modules.items()
            for parameter in module._parameters.values()
            if parameter is not None
        }

    # ------------------------------------------------------------------ attention

    def attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        embed_dim: int,
        num_head: int,
        qkv_weight: torch.Tensor,
        qkv_bias: torch.Tensor,
        proj_weight: torch.Tensor,
        proj_bias: torch.Tensor,
        mask: torch.Tensor | None = None,
        need_weights: bool = True,
        average_attn_weights: bool = True,
        mask_type: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend over ``[B, T, D]``; return ``[B, T, D]`` and the weights that are asked for."""
        if any(tensor.is_nested for tensor in (query, key, value)):
            return NotImplemented  # type: ignore[no-any-return]
        is_self = query is key and key is value
        if is_self and not need_weights and mask is None and self._chooses_kernel(query, num_head):
            return self._by_kernel(
                query, num_head, qkv_weight, qkv_bias, proj_weight, proj_bias
            ), None
        projected = _project(query, key, value, embed_dim, qkv_weight)
        heads = aten._transform_bias_rescale_qkv(projected, qkv_bias, num_head)
        del projected
        queries, keys, values = (part.flatten(0, 1) for part in heads)
        del heads
        batch, length, _ = query.shape
        scores = aten.bmm(queries, keys.transpose(1, 2))
        scores = scores.view(batch, num_head, length, length)
        scores = _softmax(scores, mask, mask_type)
        aten.bmm.out(scores.flatten(0, 1), values, out=queries)  # the queries' memory is free now
        weights = scores if need_weights else None
        del scores
        context = queries.view(batch, num_head, length, -1).permute(0, 2, 1, 3).contiguous()
        rows = context.view(batch * length, embed_dim)
        del context
        output = aten.addmm(proj_bias, rows, proj_weight.t()).view(batch, length, -1)
        del rows
        if weights is not None and average_attn_weights:
            weights = weights.sum(1)
            weights /= num_head
        return output, weights

    def _chooses_kernel(self, query: torch.Tensor, num_head: int) -> bool:
        batch, _, width = query.shape
        if self._takes_kernel is None or (width // num_head) % _WIDTHS:
            return False
        heads = query.view(batch, -1, num_head, width // num_head).transpose(1, 2)
        return self._takes_kernel(heads, heads, heads)

    def _by_kernel(
        self, query: torch.Tensor, num_head: int, qkv_weight: torch.Tensor,
        qkv_bias: torch.Tensor, proj_weight: torch.Tensor, proj_bias: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        batch, length, width = query.shape
        projected = nn.functional.linear(query, qkv_weight, qkv_bias)
        heads = [
            part.view(batch, -1, num_head, width // num_head).transpose(1, 2)
            for part in projected.chunk(3, -1)
        ]
        context = nn.functional.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        rows = context.transpose(1, 2).reshape(batch, length, width)
        return nn.functional.linear(rows, proj_weight, proj_bias)

    # ------------------------------------------------------------------ encoder layer

    def encoder_layer(self, src: torch.Tensor, *rest: Any) -> torch.Tensor:
        """Run a layer over ``[B, T, D]``; autocast, where it is on, acts inside of the kernel."""
        if src.is_nested or src.numel() == 0:
            return NotImplemented  # type: ignore[no-any-return]
        with autocast_of_the_caller():
            return self._encoder_layer(src, *rest)

    def _encoder_layer(
        self, src: torch.Tensor, embed_dim: int, num_heads: int, qkv_weight: torch.Tensor,
        qkv_bias: torch.Tensor, proj_weight: torch.Tensor, proj_bias: torch.Tensor, use_gelu: bool,
        norm_first: bool, eps: float, norm_weight_1: torch.Tensor, norm_bias_1: torch.Tensor,
        norm_weight_2: torch.Tensor, norm_bias_2: torch.Tensor, ffn_weight_1: torch.Tensor,
        ffn_bias_1: torch.Tensor, ffn_weight_2: torch.Tensor, ffn_bias_2: torch.Tensor,
        mask: torch.Tensor | None = None, mask_type: int | None = None,
    ) -> torch.Tensor:  # fmt: skip
        layer = self._calls.place()

        def norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            def run(given: torch.Tensor) -> torch.Tensor:
                return nn.functional.layer_norm(given, (embed_dim,), weight, bias, eps)

            normed: torch.Tensor = self._as_layer_of(weight, run, x)
            return normed

        def attend(x: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, None]:
            return aten._native_multi_head_attention(
                x, x, x, embed_dim, num_heads, qkv_weight, qkv_bias, proj_weight, proj_bias,
                mask, False, True, mask_type,
            )[0], None  # fmt: skip

        def widen(x: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = aten._addmm_activation(
                ffn_bias_1, x.flatten(0, 1), ffn_weight_1.t(), use_gelu=use_gelu
            )
            return rows.view(*x.shape[:2], -1)

        def narrow(x: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = aten.addmm(ffn_bias_2, x.flatten(0, 1), ffn_weight_2.t())
            return rows.view(*x.shape[:2], -1)

        x = norm(src, norm_weight_1, norm_bias_1) if norm_first else src
        x = self._as_layer_of(qkv_weight, attend, x, x, x)[0]
        self._pass_through(layer, "dropout1", x)
        x.add_(src)
        if not norm_first:
            x = norm(x, norm_weight_1, norm_bias_1)
        residual = x
        if norm_first:
            x = norm(x, norm_weight_2, norm_bias_2)
        wide = self._as_layer_of(ffn_weight_1, widen, x)
        self._pass_through(layer, "activation", wide)
        self._pass_through(layer, "dropout", wide)
        x = self._as_layer_of(ffn_weight_2, narrow, wide)
        del wide
        self._pass_through(layer, "dropout2", x)
        x.add_(residual)
        return x if norm_first else norm(x, norm_weight_2, norm_bias_2)

    def _as_layer_of(self, weight: torch.Tensor, run: Callable[..., Any], *args: Any) -> Any:
        """Run a part of a kernel as a call of the layer that the weight belongs to."""
        path = self._owners.get(id(weight), self._calls.place())
        if path == self._calls.place():
            return run(*args)
        return self._calls.wrap_forward(path, run, type(self._modules[path]).forward)(*args)

    def _pass_through(self, layer: str, name: str, x: torch.Tensor) -> None:
        """Note a call of a layer that the kernel has no work for, or does in another's place."""
        path = f"{layer}.{name}" if layer else name
        module = self._modules.get(path)
        if module is not None:
            self._calls.wrap_forward(path, _as_it_is, type(module).forward)(x)


def _as_it_is(x: torch.Tensor) -> torch.Tensor:
    return x


def _project(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, width: int, weight: torch.Tensor
) -> torch.Tensor:
    """Return queries, keys and values side by side, ``[B, T, 3 D]``."""
    if key is value and query is key:
        return query @ weight.t()
    if key is value:
        first, rest = weight.split_with_sizes((width, 2 * width))
        return torch.cat((query @ first.t(), key @ rest.t()), 2)
    parts = zip((query, key, value), weight.chunk(3), strict=True)
    return torch.cat([tensor @ part.t() for tensor, part in parts], 2)


def _softmax(
    scores: torch.Tensor, mask: torch.Tensor | None, mask_type: int | None
) -> torch.Tensor:
    """Return weights, in the memory of the scores where nothing is masked."""
    if mask is None:
        return aten._softmax.out(scores, scores.dim() - 1, False, out=scores)  # type: ignore[no-any-return]
    if mask.dtype != torch.bool:
        mask = mask.to(torch.bool)
    return aten._masked_softmax(scores, mask, scores.dim() - 1, mask_type)  # type: ignore[no-any-return]
