"""Recurrent layers as CUDA runs them: cuDNN's one kernel for all layers, directions and steps.

Source: ``RNN.cpp`` in PyTorch's ``aten/src/ATen/native/cudnn`` and ``aten/src/ATen/native``
(2.6–2.13). Shapes: input ``[T, B, I]`` (``[B, T, I]`` with ``batch_first``, ``[N, I]`` packed),
states ``[layers · directions, B, H]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from torchgauge.trace.kernels.recurrent import Options
from torchgauge.trace.shapes.rule import Args, Gradients, Kwargs, Rule, Tensors

_MODES = {"rnn_relu": 0, "rnn_tanh": 1, "lstm": 2, "gru": 3}
"""cuDNN's numbers (``cudnnRNNMode_t``)."""
_KEPT_PER_UNIT = {0: 1, 1: 1, 2: 6, 3: 5}
"""Values that a backward needs for each unit and step, by mode: the output, the activated gates,
an LSTM's cell, a GRU's product of the hidden state with the new gate's weights. Assumes that the
reserve space holds these and nothing else; cuDNN does not publish its layout."""


def _run(
    kind: str,
    source: torch.Tensor,
    hx: torch.Tensor,
    cx: torch.Tensor | None,
    params: Sequence[torch.Tensor],
    options: Options,
    batch_sizes: Sequence[int] = (),
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return output, hidden state and cell state."""
    hidden_size = (cx if cx is not None else hx).shape[2]
    projected = hx.shape[2] if kind == "lstm" and hx.shape[2] != hidden_size else 0
    per_cell = (4 if options.has_biases else 2) + (1 if projected else 0)
    buffer = params[0].new_empty(0)  # where all weights lie already, one after the other
    results = torch.ops.aten._cudnn_rnn(
        source, list(params), per_cell, buffer, hx, cx, _MODES[kind], hidden_size, projected,
        options.num_layers, options.batch_first, options.dropout, options.train,
        options.bidirectional, list(batch_sizes), None,
    )  # fmt: skip
    return results[0], results[1], results[2]


def _layers(kind: str, *, is_packed: bool) -> Callable[..., tuple[torch.Tensor, ...]]:
    def run(source: torch.Tensor, *given: Any) -> tuple[torch.Tensor, ...]:
        sizes, given = (given[0].tolist(), given[1:]) if is_packed else ((), given)
        hx, params, *options = given
        hidden, cell = (hx[0], hx[1]) if kind == "lstm" else (hx, None)
        results = _run(kind, source, hidden, cell, params, Options(*options), sizes)
        return results if kind == "lstm" else results[:2]

    return run


def cudnn_rnn(args: Args, kwargs: Kwargs) -> Tensors:
    """Outputs of ``aten._cudnn_rnn``: output, both states, reserve space, weight buffer."""
    source, _, _, weights, hx, cx, mode, size, projected, layers, batch_first = args[:11]
    train, bidirectional, batch_sizes = args[12:15]
    directions = 2 if bidirectional else 1
    width = (projected or size) * directions
    options = {"dtype": source.dtype, "device": source.device}
    if batch_sizes:
        output = torch.empty((source.shape[0], width), **options)
    elif batch_first:  # the kernel works with the steps first
        shape = (source.shape[1], source.shape[0], width)
        output = torch.empty(shape, **options).transpose(0, 1)
    else:
        output = torch.empty((*source.shape[:2], width), **options)
    states = (
        torch.empty(hx.shape, **options),
        torch.empty(cx.shape if cx is not None else (0,), **options),
    )
    positions = source.shape[0] if batch_sizes else prod(source.shape[:2])
    kept = _KEPT_PER_UNIT[mode] * positions * layers * directions * size * source.element_size()
    reserve = torch.empty(kept if train else 0, dtype=torch.uint8, device=source.device)
    return output, *states, reserve, weights


def cudnn_rnn_backward(
    args: Args, kwargs: Kwargs
) -> tuple[torch.Tensor | list[torch.Tensor] | None, ...]:
    """Gradients of the input, both states and all weights, as ``output_mask`` asks."""
    source, weights, hx, cx, mask = args[0], args[1], args[4], args[5], args[-1]
    first = [
        torch.empty_like(tensor) if wanted and tensor is not None else None
        for tensor, wanted in zip((source, hx, cx), mask[:3], strict=True)
    ]
    return *first, [torch.empty_like(weight) for weight in weights] if mask[3] else []


def lstm_cell(
    source: torch.Tensor,
    hx: Sequence[torch.Tensor],
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    b_ih: torch.Tensor | None = None,
    b_hh: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run one step: both products, and a kernel for all that is between (``LSTMCell``)."""
    inputs, hiddens = source.matmul(w_ih.t()), hx[0].matmul(w_hh.t())
    results = torch.ops.aten._thnn_fused_lstm_cell(inputs, hiddens, hx[1], b_ih, b_hh)
    return results[0], results[1]


def gru_cell(
    source: torch.Tensor,
    hx: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    b_ih: torch.Tensor | None = None,
    b_hh: torch.Tensor | None = None,
) -> torch.Tensor:
    """Run one step: both products, and a kernel for all that is between (``GRUCell``)."""
    inputs, hiddens = source.matmul(w_ih.t()), hx.matmul(w_hh.t())
    result: torch.Tensor = torch.ops.aten._thnn_fused_gru_cell(inputs, hiddens, hx, b_ih, b_hh)[0]
    return result


def fused_lstm_cell(args: Args, kwargs: Kwargs) -> Tensors:
    """Both states ``[B, H]`` and the activated gates ``[B, 4H]``.

    Source, of the four rules: ``RNN.cu`` in PyTorch's ``aten/src/ATen/native/cuda``.
    """
    return torch.empty_like(args[2]), torch.empty_like(args[2]), torch.empty_like(args[0])


def fused_lstm_cell_backward(args: Args, kwargs: Kwargs) -> Gradients:
    """Gradients of the gates ``[B, 4H]``, the cell state and the bias."""
    cx, gates, has_bias = args[2], args[4], args[5]
    bias = gates.new_empty(gates.shape[1]) if has_bias else None
    return torch.empty_like(gates), torch.empty_like(cx), bias


def fused_gru_cell(args: Args, kwargs: Kwargs) -> Tensors:
    """The state ``[B, H]`` and five values per unit (``GRU_WORKSPACE_MULTIPLIER``)."""
    batch, size = args[2].shape
    return torch.empty_like(args[2]), args[2].new_empty((batch, 5 * size))


def fused_gru_cell_backward(args: Args, kwargs: Kwargs) -> Gradients:
    """Gradients of both kinds of gates ``[B, 3H]``, the state and both biases."""
    grad, has_bias = args[0], args[2]
    batch, size = grad.shape
    gates = [grad.new_empty((batch, 3 * size)) for _ in range(2)]
    biases = [grad.new_empty(3 * size) if has_bias else None for _ in range(2)]
    return *gates, torch.empty_like(grad), *biases


KERNELS: dict[str, Callable[..., Any]] = {
    "lstm_cell": lstm_cell,
    "gru_cell": gru_cell,
    **{f"{kind}.input": _layers(kind, is_packed=False) for kind in _MODES},
    **{f"{kind}.data": _layers(kind, is_packed=True) for kind in _MODES},
}
"""Recurrent layers on padded and on packed sequences, and single steps."""

SHAPE_RULES: dict[str, Rule] = {
    "aten._cudnn_rnn.default": cudnn_rnn,
    "aten._cudnn_rnn_backward.default": cudnn_rnn_backward,
    "aten._thnn_fused_lstm_cell.default": fused_lstm_cell,
    "aten._thnn_fused_lstm_cell_backward_impl.default": fused_lstm_cell_backward,
    "aten._thnn_fused_gru_cell.default": fused_gru_cell,
    "aten._thnn_fused_gru_cell_backward.default": fused_gru_cell_backward,
}
"""Rules by operator; each makes the outputs from ``(args, kwargs)``."""
