"""Output shapes of kernels that take packed weights and make plain tensors.

For runs that must be simulated. What has a quantized output cannot be: meta tensors have no scale.
"""

from __future__ import annotations

from typing import Any

import torch

from torchgauge.trace.data_dependent import DataDependentError
from torchgauge.trace.inspect.bitsandbytes import QUANTIZE
from torchgauge.trace.inspect.packed_objects import packed_tensors
from torchgauge.trace.shapes.rule import Args, Kwargs, Rule, Tensors, made


def _weights(packed: Any) -> list[tuple[int, ...]]:
    return [t.shape for t in packed_tensors(packed) if t.name.startswith("weight")]


def _linear(args: Args, kwargs: Kwargs) -> torch.Tensor:
    """``[…, i]`` by a packed ``[o, i]`` → ``[…, o]``."""
    source, (weight,) = args[0], _weights(args[1])
    if source.shape[-1] != weight[1]:
        raise RuntimeError(f"a packed weight {list(weight)} got an input of {list(source.shape)}")
    return made((*source.shape[:-1], weight[0]), torch.float32)


def _embedding(args: Args, kwargs: Kwargs) -> torch.Tensor:
    """A packed ``[n, d]`` and indices ``[…]`` → ``[…, d]``."""
    return made((*args[1].shape, _weights(args[0])[0][1]), torch.float32)


def _embedding_bag(args: Args, kwargs: Kwargs) -> torch.Tensor:
    """A packed ``[n, d]`` and bags ``[b, k]``, or offsets of bags ``[b]`` → ``[b, d]``."""
    indices = args[1]
    offsets = args[2] if len(args) > 2 else kwargs.get("offsets")
    includes_last = kwargs.get("include_last_offset", args[8] if len(args) > 8 else False)
    if isinstance(offsets, torch.Tensor) and indices.dim() == 1:
        bags = offsets.shape[0] - bool(includes_last)
    else:
        bags = indices.shape[0]
    return made((bags, _weights(args[0])[0][1]), torch.float32)


def _network(args: Args, kwargs: Kwargs) -> Tensors:
    """``(x: [t, b, i], states, cells, biases, layers, dropout, train, bidirectional, …)``."""
    source, states, cells, bidirectional = args[0], args[1], args[2], args[7]
    hidden = _weights(cells[0])[1][1]
    output = made((*source.shape[:-1], hidden * (2 if bidirectional else 1)), torch.float32)
    states = states if isinstance(states, (list, tuple)) else [states]
    return output, *(made(state.shape, torch.float32) for state in states)


def _cell(args: Args, kwargs: Kwargs) -> torch.Tensor:
    return made(args[1].shape, torch.float32)


def _needs_scales(args: Args, kwargs: Kwargs) -> torch.Tensor:
    raise DataDependentError(
        "statically quantized layers run on real tensors only (a meta tensor has no scale)"
    )


_STATIC = (
    "linear.default", "linear_relu.default", "linear_leaky_relu.default", "linear_tanh.default",
    "conv1d.default", "conv1d_relu.default", "conv2d.new", "conv2d_relu.new", "conv2d_add.default",
    "conv2d_add_relu.default", "conv3d.new", "conv3d_relu.new", "conv_transpose1d.default",
    "conv_transpose2d.default", "conv_transpose3d.default", "add.default", "mul.default",
    "batch_norm2d.default", "layer_norm.default",
)  # fmt: skip


def _quantized_rows(args: Args, kwargs: Kwargs) -> tuple[Any, ...]:
    """``[n, k] → [n, k]`` int8, a scale per row, and no outlier columns."""
    source, has_threshold = args[0], len(args) > 1 and args[1] > 0
    rows = source.numel() // source.shape[-1]
    quantized = made(source.shape, torch.int8)
    scales = made(rows, torch.float32)
    columns = made(0, torch.int64) if has_threshold else None
    return quantized, scales, columns


PACKED_RULES: dict[str, Rule] = {
    QUANTIZE: _quantized_rows,
    **{
        f"quantized.linear{kind}.default": _linear
        for kind in ("_dynamic", "_relu_dynamic", "_dynamic_fp16", "_relu_dynamic_fp16")
    },
    **{f"quantized.embedding_{kind}.default": _embedding for kind in ("byte", "4bit", "2bit")},
    **{
        f"quantized.embedding_bag_{kind}.default": _embedding_bag
        for kind in ("byte", "4bit", "2bit")
    },
    **{f"quantized.{name}": _needs_scales for name in _STATIC},
    **{f"aten.quantize_per_tensor.{name}": _needs_scales for name in ("default", "tensor_qparams")},
    "aten.quantized_lstm.input": _network,
    "aten.quantized_gru.input": _network,
    "quantized.quantized_lstm_cell_dynamic.default": lambda args, kwargs: tuple(
        made(state.shape, torch.float32) for state in args[1]
    ),
    **{
        f"quantized.quantized_{kind}_cell_dynamic.default": _cell
        for kind in ("gru", "rnn_tanh", "rnn_relu")
    },
}
"""Rules by operator, as in ``table.SHAPE_RULES``."""
