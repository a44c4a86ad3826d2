"""Recurrent layers as CUDA runs them: cuDNN's one kernel for all layers, directions and steps.

Source: ``RNN.cpp`` in PyTorch's ``aten/src/ATen/native/cudnn`` and ``aten/src/ATen/native``
(2.6–2.13). Shapes: input ``[T, B, I]`` (``[B, T, I]`` with ``batch_first``, ``[N, I]`` packed),
states ``[layers · directions, B, H]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

_MODES = {"rnn_relu": 0, "rnn_tanh": 1, "lstm": 2, "gru": 3}
"""cuDNN's numbers (``cudnnRNNMode_t``)."""
_KEPT_PER_UNIT = {0: 1, 1: 1, 2: 6, 3: 5}
"""Values that a backward needs for each unit and step, by mode: the output, the activated gates,
an LSTM's cell, a GRU's product of the hidden state with the new gate's weights. Assumes that the
reserve space holds these and nothing else; cuDNN does not publish its layout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """What the forward of a recurrent layer gets besides tensors."""

    has_biases: bool
    num_layers: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool = False


def _run(
    kind: str,
    source: torch.Tensor,
    hx: torch.Tensor,
    cx: torch.Tensor | None,
    params: Sequence[torch.Tensor],
    options: _Options,
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


def _padded(kind: str) -> Callable[..., tuple[torch.Tensor, ...]]:
    def run(
        source: torch.Tensor,
        hx: Any,
        params: Sequence[torch.Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[torch.Tensor, ...]:
        options = _Options(
            has_biases=has_biases, num_layers=num_layers, dropout=dropout, train=train,
            bidirectional=bidirectional, batch_first=batch_first,
        )  # fmt: skip
        hidden, cell = (hx[0], hx[1]) if kind == "lstm" else (hx, None)
        results = _run(kind, source, hidden, cell, params, options)
        return results if kind == "lstm" else results[:2]

    return run


def _packed(kind: str) -> Callable[..., tuple[torch.Tensor, ...]]:
    def run(
        data: torch.Tensor,
        batch_sizes: torch.Tensor,
        hx: Any,
        params: Sequence[torch.Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
    ) -> tuple[torch.Tensor, ...]:
        options = _Options(
            has_biases=has_biases, num_layers=num_layers, dropout=dropout, train=train,
            bidirectional=bidirectional,
        )  # fmt: skip
        hidden, cell = (hx[0], hx[1]) if kind == "lstm" else (hx, None)
        sizes = [int(size) for size in batch_sizes.tolist()]
        results = _run(kind, data, hidden, cell, params, options, sizes)
        return results if kind == "lstm" else results[:2]

    return run


def cudnn_rnn(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
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
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor | list[torch.Tensor] | None, ...]:
    """Gradients of the input, both states and all weights, as ``output_mask`` asks."""
    source, weights, hx, cx, mask = args[0], args[1], args[4], args[5], args[-1]
    first = [
        torch.empty_like(tensor) if wanted and tensor is not None else None
        for tensor, wanted in zip((source, hx, cx), mask[:3], strict=True)
    ]
    return *first, [torch.empty_like(weight) for weight in weights] if mask[3] else []


KERNELS: dict[str, Callable[..., Any]] = {
    **{f"{kind}.input": _padded(kind) for kind in _MODES},
    **{f"{kind}.data": _packed(kind) for kind in _MODES},
}
"""Recurrent layers on padded and on packed sequences."""
