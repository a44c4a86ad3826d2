"""Recurrent layers as the CPU runs them: input products for all steps at once, oneDNN's LSTM.

On other devices PyTorch computes the input product of each step separately, which takes the
same FLOPs in other operators. Source: ``FullLayer``, ``FullBidirectionalLayer`` and the cells in
PyTorch's ``aten/src/ATen/native/RNN.cpp``, ``mkldnn/RNN.cpp`` (2.6–2.13).
Shapes: input ``[T, B, I]`` (``[B, T, I]`` with ``batch_first``), states
``[layers · directions, B, H]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.nn import functional

Cell: TypeAlias = "Callable[[torch.Tensor, Any, Sequence[torch.Tensor]], Any]"
_LSTM_MODE = 2
"""oneDNN's number for an LSTM."""
_ONEDNN_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Options(NamedTuple):
    """What every recurrent operator takes after its tensors, in that order."""

    has_biases: bool
    num_layers: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool = False

    @property
    def directions(self) -> int:
        """Return how many directions each layer has."""
        return 2 if self.bidirectional else 1

    def per_cell(self, params: Sequence[torch.Tensor]) -> int:
        """Return how many weights and biases each layer and direction has."""
        return len(params) // (self.num_layers * self.directions)

    def cells(self, params: Sequence[torch.Tensor]) -> list[Sequence[torch.Tensor]]:
        """Return the weights and biases of each layer and direction."""
        count = self.per_cell(params)
        return [params[start : start + count] for start in range(0, len(params), count)]

    def drops_after(self, layer: int) -> bool:
        """Return whether dropout comes after a layer."""
        return bool(self.dropout and self.train and layer < self.num_layers - 1)


def linear(x: torch.Tensor, params: Sequence[torch.Tensor], index: int) -> torch.Tensor:
    """Return the product with one of a cell's two weights: 0 of the input, 1 of the state."""
    bias = params[2 + index] if len(params) > 3 else None
    return functional.linear(x, params[index], bias)


def gru_cell(gates: torch.Tensor, hidden: Any, params: Sequence[torch.Tensor]) -> Any:
    """One step, with the input product of this step as ``gates``."""
    inputs = gates.unsafe_chunk(3, 1)
    hiddens = linear(hidden, params, 1).unsafe_chunk(3, 1)
    reset = hiddens[0].add_(inputs[0]).sigmoid_()
    update = hiddens[1].add_(inputs[1]).sigmoid_()
    new = inputs[2].add(hiddens[2].mul_(reset)).tanh_()
    return (hidden - new).mul_(update).add_(new)


def tanh_cell(gates: torch.Tensor, hidden: Any, params: Sequence[torch.Tensor]) -> Any:
    """One step with tanh."""
    return torch.tanh(linear(hidden, params, 1).add_(gates))


def relu_cell(gates: torch.Tensor, hidden: Any, params: Sequence[torch.Tensor]) -> Any:
    """One step with ReLU."""
    return torch.relu(linear(hidden, params, 1).add_(gates))


def lstm_cell(gates: torch.Tensor, hidden: Any, params: Sequence[torch.Tensor]) -> Any:
    """One step with the states ``(h, c)``; the last of an odd number of weights is a projection."""
    hx, cx = hidden
    projection = params[-1] if len(params) in (3, 5) else None
    weights = params if projection is None else params[:-1]
    chunks = linear(hx, weights, 1).add_(gates).unsafe_chunk(4, 1)
    enter, forget = chunks[0].sigmoid_(), chunks[1].sigmoid_()
    cell, leave = chunks[2].tanh_(), chunks[3].sigmoid_()
    cy = (forget * cx).add_(enter * cell)
    hy = leave * cy.tanh()
    return (hy if projection is None else hy.matmul(projection.t())), cy


def output_of(hidden: Any) -> torch.Tensor:
    """Return what a step puts out of its states."""
    result: torch.Tensor = hidden[0] if isinstance(hidden, tuple) else hidden
    return result


def _run_steps(
    steps: Sequence[torch.Tensor], hidden: Any, params: Sequence[torch.Tensor], cell: Cell
) -> tuple[list[torch.Tensor], Any]:
    outputs = []
    for step in steps:
        hidden = cell(step, hidden, params)
        outputs.append(output_of(hidden))
    return outputs, hidden


def _layer(
    x: torch.Tensor, hidden: Any, params: Sequence[torch.Tensor], cell: Cell
) -> tuple[torch.Tensor, Any]:
    gates = linear(x, params, 0)
    outputs, final = _run_steps(gates.unbind(0), hidden, params, cell)
    return torch.stack(outputs, 0), final


def _bidirectional_layer(
    x: torch.Tensor, hiddens: Sequence[Any], params: Sequence[Sequence[torch.Tensor]], cell: Cell
) -> tuple[torch.Tensor, list[Any]]:
    """Run both directions; names are bound for as long as the kernel's own variables live."""
    gates = linear(x, params[0], 0)
    steps = gates.unbind(0)
    outputs, final = _run_steps(steps, hiddens[0], params[0], cell)
    forward = torch.stack(outputs, 0)
    gates = linear(x, params[1], 0)
    steps = gates.unbind(0)
    backward_outputs, backward_final = _run_steps(steps[::-1], hiddens[1], params[1], cell)
    backward = torch.stack(backward_outputs[::-1], 0)
    return torch.cat([forward, backward], forward.dim() - 1), [final, backward_final]


def _layers(
    x: torch.Tensor,
    hiddens: Sequence[Any],
    params: Sequence[torch.Tensor],
    cell: Cell,
    options: Options,
) -> tuple[torch.Tensor, list[Any]]:
    cells = options.cells(params)
    finals: list[Any] = []
    for layer in range(options.num_layers):
        if options.bidirectional:
            own = slice(2 * layer, 2 * layer + 2)
            x, pair = _bidirectional_layer(x, hiddens[own], cells[own], cell)
            finals += pair
        else:
            x, final = _layer(x, hiddens[layer], cells[layer], cell)
            finals.append(final)
        if options.drops_after(layer):
            x = torch.dropout(x, options.dropout, True)
    return x, finals


def _simple(cell: Cell) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    def run(
        x: torch.Tensor, hx: torch.Tensor, params: Sequence[torch.Tensor], *options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = Options(*options)
        x = x.transpose(0, 1) if chosen.batch_first else x
        output, final = _layers(x, hx.unbind(0), params, cell, chosen)
        states = torch.stack(final, 0)
        del final
        return (output.transpose_(0, 1) if chosen.batch_first else output), states

    return run


def lstm(
    x: torch.Tensor, hx: Sequence[torch.Tensor], params: Sequence[torch.Tensor], *options: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run an LSTM: oneDNN's kernel per layer and direction, step by step with a projection."""
    chosen = Options(*options)
    if takes_onednn(x, chosen.per_cell(params)):
        return onednn_lstm(x, hx, params, chosen)
    hiddens = list(zip(hx[0].unbind(0), hx[1].unbind(0), strict=True))
    x = x.transpose(0, 1) if chosen.batch_first else x
    output, final = _layers(x, hiddens, params, lstm_cell, chosen)
    cy = torch.stack([state[1] for state in final], 0)
    hy = torch.stack([state[0] for state in final], 0)
    del final
    return (output.transpose_(0, 1) if chosen.batch_first else output), hy, cy


def takes_onednn(x: torch.Tensor, per_cell: int) -> bool:
    """Return whether oneDNN runs an LSTM of so many weights per layer and direction."""
    return per_cell in (2, 4) and x.dtype in _ONEDNN_DTYPES and x.numel() > 0


def onednn_lstm(
    x: torch.Tensor, hx: Sequence[torch.Tensor], params: Sequence[torch.Tensor], options: Options
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run an LSTM with oneDNN's kernel, once per layer and direction."""
    directions, cells = options.directions, options.cells(params)
    source = x = (x.transpose(0, 1) if options.batch_first else x).contiguous()
    h0, c0 = hx[0].contiguous(), hx[1].contiguous()
    hy, cy = [], []
    outputs = [x] * directions  # each is there until the next layer's takes its place
    for layer in range(options.num_layers):
        for direction in range(directions):
            index = layer * directions + direction
            weights = list(cells[index])
            hidden, cell = h0[index], c0[index]
            if not options.has_biases:
                # As large as the weights, as ``mkldnn/RNN.cpp`` makes them.
                weights += [torch.zeros_like(weight) for weight in weights]
            result = torch.ops.aten.mkldnn_rnn_layer(
                x, *weights, hidden, cell, direction == 1, [], _LSTM_MODE, h0.shape[2],
                options.num_layers, options.has_biases, options.bidirectional, options.batch_first,
                options.train,
            )  # fmt: skip
            outputs[direction] = result[0]
            hy.append(result[1])
            cy.append(result[2])
            del result
        x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
        if options.drops_after(layer):
            x = torch.dropout(x, options.dropout, True)
    states = torch.stack(hy, 0), torch.stack(cy, 0)
    output = x.transpose(0, 1) if options.batch_first else x
    del source  # the kernel's own variable lives until here
    return output, *states


KERNELS: dict[str, Callable[..., Any]] = {
    "gru.input": _simple(gru_cell),
    "rnn_tanh.input": _simple(tanh_cell),
    "rnn_relu.input": _simple(relu_cell),
    "lstm.input": lstm,
}
"""Recurrent layers on padded sequences."""
