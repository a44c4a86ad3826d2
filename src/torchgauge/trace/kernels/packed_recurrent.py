"""Recurrent layers on packed sequences as the CPU runs them.

The input product of all tokens comes first, then a step per point in time over the sequences that
are still running. Source: ``PackedLayer``, ``ReversedPackedLayer`` and ``PackedBidirectionalLayer``
in PyTorch's ``aten/src/ATen/native/RNN.cpp`` (2.6–2.13).
Shapes: data ``[tokens, I]``, batch sizes ``[T]`` on the CPU, states ``[layers, B, H]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from torchgauge.trace.kernels import recurrent
from torchgauge.trace.kernels.recurrent import Cell, Options
from torchgauge.trace.torch_internals.chosen_kernels import packed_lstm_takes_onednn


def pad_packed_sequence(
    data: torch.Tensor,
    batch_sizes: torch.Tensor,
    batch_first: bool,
    padding_value: float,
    total_length: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unpack ``[sum of lengths, ...]`` to ``[T, B, ...]`` and the lengths ``[B]``.

    The same copies in the same order as ``_pad_packed_sequence`` in PyTorch's
    ``aten/src/ATen/native/PackedSequence.cpp``: one per run of equal batch sizes.
    """
    sizes = [int(size) for size in batch_sizes.tolist()]
    steps, batch = max(len(sizes), total_length), sizes[0]
    output = data.new_full((steps, batch, *data.shape[1:]), padding_value)
    offset = start = 0
    while start < len(sizes):
        end = start
        while end < len(sizes) and sizes[end] == sizes[start]:
            end += 1
        size, count = sizes[start], end - start
        chunk = data[offset : offset + count * size].view(count, size, *data.shape[1:])
        output[start:end, :size].copy_(chunk)
        offset, start = offset + count * size, end
    lengths: list[int] = []
    for step in range(len(sizes), 0, -1):  # the shortest sequences are the last rows
        lengths += [step] * (sizes[step - 1] - len(lengths))
    return (output.transpose(0, 1) if batch_first else output), torch.tensor(lengths)


def _sliced(hidden: Any, start: int, end: int) -> Any:
    if isinstance(hidden, tuple):
        return tuple(state[start:end] for state in hidden)
    return hidden[start:end]


def _joined(hiddens: Sequence[Any]) -> Any:
    if isinstance(hiddens[0], tuple):
        return tuple(torch.cat(states, 0) for states in zip(*hiddens, strict=True))
    return torch.cat(list(hiddens), 0)


def _layer(
    data: torch.Tensor,
    sizes: Sequence[int],
    hidden: Any,
    params: Sequence[torch.Tensor],
    cell: Cell,
) -> tuple[torch.Tensor, Any]:
    """Run forwards; sequences that end leave, and their last states are joined at the end."""
    gates = recurrent.linear(data, params, 0)
    outputs, ended = [], []
    offset, last = 0, sizes[0]
    for size in sizes:
        step = gates[offset : offset + size]
        offset += size
        if size < last:
            ended.append(_sliced(hidden, size, last))
            hidden = _sliced(hidden, 0, size)
        last = size
        hidden = cell(step, hidden, params)
        outputs.append(recurrent.output_of(hidden))
    ended.append(hidden)
    return torch.cat(outputs, 0), _joined(ended[::-1])


def _reversed_layer(
    data: torch.Tensor, sizes: Sequence[int], first: Any, params: Sequence[torch.Tensor], cell: Cell
) -> tuple[torch.Tensor, Any]:
    """Run backwards; sequences join with their first states where they end."""
    gates = recurrent.linear(data, params, 0)
    outputs = []
    offset, last = data.shape[0], sizes[-1]
    hidden = _sliced(first, 0, last)
    for size in reversed(sizes):
        if size > last:
            hidden = _joined([hidden, _sliced(first, last, size)])
        step = gates[offset - size : offset]
        offset -= size
        last = size
        hidden = cell(step, hidden, params)
        outputs.append(recurrent.output_of(hidden))
    return torch.cat(outputs[::-1], 0), hidden


def _layers(
    data: torch.Tensor,
    sizes: Sequence[int],
    hiddens: Sequence[Any],
    params: Sequence[torch.Tensor],
    cell: Cell,
    options: Options,
) -> tuple[torch.Tensor, list[Any]]:
    cells = options.cells(params)
    finals: list[Any] = []
    for layer in range(options.num_layers):
        if options.bidirectional:
            one, two = 2 * layer, 2 * layer + 1
            forward = _layer(data, sizes, hiddens[one], cells[one], cell)
            backward = _reversed_layer(data, sizes, hiddens[two], cells[two], cell)
            data = torch.cat([forward[0], backward[0]], -1)
            finals += [forward[1], backward[1]]
            del forward, backward
        else:
            data, final = _layer(data, sizes, hiddens[layer], cells[layer], cell)
            finals.append(final)
        if options.drops_after(layer):
            data = torch.dropout(data, options.dropout, True)
    return data, finals


def _simple(cell: Cell) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    def run(
        data: torch.Tensor,
        batch_sizes: torch.Tensor,
        hx: torch.Tensor,
        params: Sequence[torch.Tensor],
        *options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        sizes, hiddens = batch_sizes.tolist(), hx.unbind(0)
        output, final = _layers(data, sizes, hiddens, params, cell, Options(*options))
        return output, torch.stack(final, 0)

    return run


def _lstm(
    data: torch.Tensor,
    batch_sizes: torch.Tensor,
    hx: Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    *options: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run an LSTM; sequences of one length are a padded batch, which oneDNN takes where it may."""
    sizes, chosen = batch_sizes.tolist(), Options(*options)
    is_padded = sizes[0] == sizes[-1] and packed_lstm_takes_onednn()
    if is_padded and recurrent.takes_onednn(data, chosen.per_cell(params)):
        source = data.view(len(sizes), sizes[0], data.shape[1])
        output, hy, cy = recurrent.onednn_lstm(source, hx, params, chosen)
        return output.view(data.shape[0], output.shape[-1]), hy, cy
    hiddens = list(zip(hx[0].unbind(0), hx[1].unbind(0), strict=True))
    output, final = _layers(data, sizes, hiddens, params, recurrent.lstm_cell, chosen)
    hy = torch.stack([state[0] for state in final], 0)
    cy = torch.stack([state[1] for state in final], 0)
    return output, hy, cy


KERNELS: dict[str, Callable[..., Any]] = {
    "gru.data": _simple(recurrent.gru_cell),
    "rnn_tanh.data": _simple(recurrent.tanh_cell),
    "rnn_relu.data": _simple(recurrent.relu_cell),
    "lstm.data": _lstm,
}
"""Recurrent layers on packed sequences."""
